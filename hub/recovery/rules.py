"""The decisions of recovery, pure: who is held back, who is let go, and who may be given a release again.

A device is held in quarantine by one rule at a time, the first that found it; safe mode takes over from other rules,
since a device that was in it has more to prove, and from a person never:

| rule | holds a device back when | lets it go when |
| --- | --- | --- |
| `operator` | a person said so | a person says so |
| `safe_mode` | it entered safe mode of its own accord | it left, and diagnostics since then pass |
| `failures` | `Limits.failures` activations in a row were rolled back of its own accord | a release was committed |
| `drift` | it reports the same drift for `Limits.drift_hours` | a later check finds none |
| `restarts` | its service was restarted `Limits.restarts` times within an hour | diagnostics of an hour later pass |

A person may always let a device go, for a reason that stands in the audit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import msgspec

from topics.messages import Recovery, UpdateResult

Rule = Literal["operator", "safe_mode", "failures", "drift", "restarts"]
RULES: Final[tuple[Rule, ...]] = ("operator", "safe_mode", "failures", "drift", "restarts")
ORDERED: Final = "ordered-"
"""What the id of a stay in safe mode begins with that the hub ordered."""
HOUR_MS: Final = 3_600_000
STORM_LEAST: Final = 3
"""Devices of a role that make a storm at the least: one of a role of five is no storm."""

REQUIRED: Final = ("clock", "disk space", "disk files", "memory", "identity", "settings", "trust root")
"""Checks of the diagnostics that must pass, or warn at most, before a device in trouble is given a release again."""
SOUND: Final = ("service", "files", "current")
"""Checks that must not fail either before a rule lets a device go; where nothing is installed they say nothing."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """From when on a rule holds a device back; 0 turns a rule off. `storm_percent` is of a role, within an hour."""

    failures: int = 3
    drift_hours: int = 24
    restarts: int = 5
    storm_percent: int = 10


class Check(msgspec.Struct, frozen=True):
    """One finding of a device's diagnostics."""

    name: str
    verdict: Literal["pass", "warn", "fail", "skip"]
    detail: str = ""
    remedy: str = ""


class Diagnostics(msgspec.Struct, frozen=True):
    """What a device said of itself when asked; `at` is when the hub received it (ms)."""

    at: int
    checks: tuple[Check, ...]
    log: str = ""
    disk: str = ""
    errors: str = ""
    probes: str = ""

    def not_passed(self, required: Sequence[str] = REQUIRED) -> list[Check]:
        """Return the required checks that failed, could not be made, or are missing."""
        known = {check.name: check for check in self.checks}
        return [
            known.get(name, Check(name, "skip", "the device did not make this check"))
            for name in required
            if name not in known or known[name].verdict in ("fail", "skip")
        ]

    @property
    def sound(self) -> bool:
        """Whether nothing speaks against letting the device go."""
        return not self.not_passed() and not any(
            check.verdict == "fail" for check in self.checks if check.name in SOUND
        )


def read_diagnostics(report: Recovery, at: int) -> Diagnostics:
    """Return the diagnostics in a report that the hub received `at` (ms); checks that cannot be read are none."""
    said = report.diagnostics
    try:
        checks = msgspec.json.decode(said.get("checks", "[]").encode(), type=tuple[Check, ...])
    except (msgspec.MsgspecError, UnicodeEncodeError):
        checks = ()
    texts = {name: said.get(name, "") for name in ("log", "disk", "errors", "probes")}
    return Diagnostics(at, checks, **texts)


class Stay(msgspec.Struct, frozen=True):
    """One stay in safe mode; times in ms, `left_at` None while it lasts."""

    entry: str
    entered_at: int
    reason: str
    release: str | None
    left_at: int | None = None
    left_reason: str = ""

    @property
    def ordered(self) -> bool:
        """Whether the hub ordered it."""
        return self.entry.startswith(ORDERED)


def stays(reports: Iterable[tuple[Recovery, int]]) -> list[Stay]:
    """Return the stays in safe mode that `reports` (oldest first, with the time received in ms) tell of, newest first.

    An end without its begin, whose report is gone by age, tells of no stay.
    """
    found: dict[str, Stay] = {}
    for report, at in reports:
        if report.state == "entered":
            found[report.entry] = Stay(report.entry, at, report.reason, report.release)
        elif report.state == "left" and report.entry in found:
            found[report.entry] = msgspec.structs.replace(
                found[report.entry], left_at=at, left_reason=report.reason
            )
    return list(found.values())[::-1]


def failures_in_a_row(results: Iterable[UpdateResult]) -> int:
    """Return how many of `results`, newest first, are roll-backs of the device's own accord before any success.

    What ended before activation, what was ordered and mere beginnings say nothing of activations.
    """
    count = 0
    for result in results:
        if result.state == "committed":
            break
        count += result.state == "rolled_back" and result.cause == "own"
    return count


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a device that is held back; times in ms, `stay` is its newest one."""

    rule: str
    since: int
    stay: Stay | None = None
    diagnostics: Diagnostics | None = None
    committed: bool = False
    drifting: bool = False


def may_go(held: Held) -> str:
    """Return why a rule lets a device go, "" where none does. See the table above."""
    sound_at = held.diagnostics.at if held.diagnostics and held.diagnostics.sound else 0
    in_safe_mode = held.stay is not None and held.stay.left_at is None
    if in_safe_mode:
        return ""
    if held.rule == "safe_mode":
        left_at = held.stay.left_at if held.stay else None
        passed = left_at is not None and left_at >= held.since and sound_at >= left_at
        return "it left safe mode and its diagnostics pass" if passed else ""
    if held.rule == "failures":
        return "a release was committed" if held.committed else ""
    if held.rule == "drift":
        return "" if held.drifting else "the drift is gone"
    if held.rule == "restarts":
        return "its diagnostics pass an hour later" if sound_at >= held.since + HOUR_MS else ""
    return ""


def takes_over(held_by: str, found: Iterable[Rule]) -> Rule | None:
    """Return which of the rules that `found` something holds a device from now on; `held_by` is "" for a free one."""
    named = set(found)
    if held_by in ("failures", "drift", "restarts"):
        return "safe_mode" if "safe_mode" in named else None
    return None if held_by else next((name for name in RULES if name in named), None)


def is_storm(quarantined: int, devices: int, limits: Limits) -> bool:
    """Whether so many of a role's `devices` were quarantined within an hour that this is an alert by itself."""
    return bool(
        limits.storm_percent
        and quarantined >= STORM_LEAST
        and quarantined * 100 > limits.storm_percent * devices
    )


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """What a redeploy is decided on; `since` is from when diagnostics count (ms), None for a device without trouble."""

    since: int | None
    diagnostics: Diagnostics | None


def redeploy_refusal(trouble: Trouble) -> tuple[str, list[Check]] | None:
    """Return why a device may not be given a release again yet, with the checks that did not pass; None if it may.

    1. A device that is neither in safe mode nor in quarantine needs no diagnostics.
    2. Else there must be diagnostics since it got into trouble.
    3. Of these, every check of `REQUIRED` must pass, or warn at most.
    """
    if trouble.since is None:
        return None
    found = trouble.diagnostics
    if found is None or found.at < trouble.since:
        return "there are no diagnostics since it got into trouble; have them collected first", []
    missing = found.not_passed()
    if missing:
        names = ", ".join(check.name for check in missing)
        return f"its diagnostics do not pass ({names}); mend that and have them collected again", missing
    return None


def superseded(pending: Sequence[dict[str, Any]], kind: str) -> list[str]:
    """Return the ids of `pending` commands that a new one of `kind` replaces: those of the same kind."""
    return [command["id"] for command in pending if command["kind"] == kind]


def crowded_out(pending: Sequence[dict[str, Any]], most: int) -> list[str]:
    """Return the ids of the oldest of `pending` (oldest first) that have to go to leave room for one more of `most`."""
    return [command["id"] for command in pending[: max(0, len(pending) + 1 - most)]]
