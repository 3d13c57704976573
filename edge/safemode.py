"""Safe mode: when it is entered and left by the hub's word, and the change of state with its report."""

from __future__ import annotations

from typing import Final, Literal

from edge.acting import Acting
from edge.storage import records, state
from edge.storage.state import State
from topics.messages import Boot, Recovery

ORDERED: Final = "ordered-"
"""What the id of a stay begins with that the hub ordered; such a stay ends when the order does."""
Wish = Literal["enter", "leave", "stay"]


def wish(order: str, entry: str) -> Wish:
    """Return what `order` (desired `safe_mode`) asks of a device whose present stay is `entry` ("" outside).

    `on` enters; `cleared:<entry>` leaves exactly that stay, so a late clearance never ends a later one;
    anything else ends a stay that was ordered and leaves the device's own alone.
    """
    if order == "on":
        return "stay" if entry else "enter"
    if entry and (order == f"cleared:{entry}" or entry.startswith(ORDERED)):
        return "leave"
    return "stay"


def obey(agent: Acting) -> None:
    """Do what the desired state says of safe mode. Raises `OSError`."""
    held = agent.beliefs.desired
    if held is None:
        return
    boot, wall = agent.memory.boot, agent.wall
    asked = wish(held.desired.safe_mode, agent.state.safe_mode)
    if asked == "stay":
        return
    if asked == "enter":
        entry = f"{ORDERED}{held.desired.issued_at}"
        changed = entered(agent.state, entry, "ordered by the hub", boot, wall)
    else:
        changed = left(agent.state, "cleared by the hub", boot, wall)
    agent.change_state(records.changed(changed, failures=0))
    agent.check_now()


def entered(base: State, entry: str, reason: str, boot: Boot, wall: int) -> State:
    """Return `base` in the stay `entry`, begun at `wall` (s), with its report."""
    report = _report("entered", entry, reason, base.running_id, boot, wall)
    # What has led to it is known best now.
    told = f"safe mode: {reason}"
    return state.with_report(
        records.changed(base, safe_mode=entry, safe_mode_applied=False, collect=told), report
    )


def left(base: State, reason: str, boot: Boot, wall: int) -> State:
    """Return `base` out of safe mode, with the report of the stay's end if there was one."""
    if not base.safe_mode:
        return base
    report = _report("left", base.safe_mode, reason, base.running_id, boot, wall)
    return state.with_report(records.changed(base, safe_mode=""), report)


def _report(
    what: Literal["entered", "left"], entry: str, reason: str, running: str | None, boot: Boot, wall: int
) -> Recovery:
    return Recovery(
        boot=boot,
        at=max(0, wall),
        spool=state.NO_SPOOL,
        n=1,
        state=what,
        entry=entry,
        reason=reason[:1000],
        release=running,
    )
