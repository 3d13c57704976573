"""What an operator wants to know of a run, as plain values and as text. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from edge.simulate.tally import Rollout, Tally, Tolerance, crossing


class Seen(NamedTuple):
    """One device at the end of the run. `attempt` is (release, state) of its last update."""

    connected: bool
    running: str | None
    attempt: tuple[str, str] | None
    verdict: str


def summary(devices: Iterable[Seen], tally: Tally, bears: Tolerance) -> dict[str, Any]:
    """Return the figures of a run; times in ms. What a device would do now is asked of the connected ones."""
    seen = list(devices)
    attempts: dict[str, Counter[str]] = {}
    for device in seen:
        if device.attempt is not None:
            release, state = device.attempt
            attempts.setdefault(release, Counter())[state] += 1
    return {
        "devices": len(seen),
        "connected": sum(device.connected for device in seen),
        "running": _sorted(Counter(device.running or "nothing" for device in seen)),
        "attempts": {release: _sorted(states) for release, states in sorted(attempts.items())},
        "verdicts": _sorted(Counter(device.verdict for device in seen if device.connected)),
        "rollouts": [
            {"release": release, "segment": segment, **rollout_figures(rollout, bears)}
            for (release, segment), rollout in sorted(tally.rollouts.items())
            if rollout.begins or rollout.pauses
        ],
    }


def rollout_figures(rollout: Rollout, bears: Tolerance) -> dict[str, Any]:
    """Return the figures of one release in one segment. Of those that `began` the hub counts no `stopped` one.

    `halt` is None without a pause. In it `began_before_crossing` and `began_until_heard` part the devices that had
    begun at the threshold from those that began before the pause reached them; `began_while_paused` must be 0.
    """
    failed = sum(outcome.failed for outcome in rollout.outcomes.values())
    figures: dict[str, Any] = {
        "began": len(rollout.begins),
        "committed": len(rollout.outcomes) - failed,
        "failed": failed,
        "stopped": len(rollout.stopped),
        "dark": len(rollout.dark),
        "halt": None,
    }
    if rollout.pauses:
        crossed = crossing(rollout.begins.values(), rollout.outcomes.values(), bears)
        first, last = min(rollout.pauses.values()), max(rollout.pauses.values())
        halt: dict[str, Any] = {
            "heard_by": len(rollout.pauses),
            "began_while_paused": rollout.began_while_paused,
        }
        if crossed is not None and crossed.at <= first:
            before = sum(at <= crossed.at for at in rollout.begins.values())
            halt |= {
                "crossed_monotonic": crossed.at,
                "failed_at_crossing": crossed.failed,
                "ended_at_crossing": crossed.ended,
                "first_heard_ms": round((first - crossed.at) * 1000, 1),
                "last_heard_ms": round((last - crossed.at) * 1000, 1),
                "began_before_crossing": before,
                "began_until_heard": len(rollout.begins) - before - rollout.began_while_paused,
            }
        figures["halt"] = halt
    return figures


def text(figures: dict[str, Any]) -> str:
    """Return the figures as lines for people."""
    lines = [
        f"{figures['devices']} devices, {figures['connected']} connected at the end; "
        f"{figures['memory_kb_per_device']} KiB each",
        *(f"running   {count:>7}  {release}" for release, count in figures["running"].items()),
        *(
            f"attempt   {count:>7}  {release} {state}"
            for release, states in figures["attempts"].items()
            for state, count in states.items()
        ),
        *(f"verdict   {count:>7}  {reason}" for reason, count in figures["verdicts"].items()),
    ]
    for rollout in figures["rollouts"]:
        lines.append(
            f"rollout   {rollout['release']} in {rollout['segment']}: {rollout['began']} began, "
            f"{rollout['committed']} committed, {rollout['failed']} failed, {rollout['stopped']} were stopped in time, "
            f"{rollout['dark']} went dark"
        )
        if rollout["halt"] is not None:
            lines.append(f"halt      {_halt(rollout['halt'])}")
    return "\n".join(lines)


def _halt(halt: dict[str, Any]) -> str:
    began = f"{halt['began_while_paused']} devices began after they had heard of it"
    if "crossed_monotonic" not in halt:
        return f"heard by {halt['heard_by']} devices, before the threshold was crossed by reports; {began}"
    return (
        f"threshold crossed by {halt['failed_at_crossing']} failures of {halt['ended_at_crossing']}; the pause was "
        f"heard {halt['first_heard_ms']:g} ms after that report, by the last of {halt['heard_by']} devices after "
        f"{halt['last_heard_ms']:g} ms; {halt['began_before_crossing']} had begun, {halt['began_until_heard']} more "
        f"began before it reached them, {began}"
    )


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
