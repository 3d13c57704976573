"""Which release a device should run: one pure decision that hub and agent share.

`bucket` places a device in a rollout; `decide` answers with one of `REASONS`.

    >>> bucket("kiosk-7-3f2a9c1b5d4e", "shop-12")
    6143
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final, Literal

import msgspec

from topics.documents import Release, Window
from topics.trust import TrustedDesired, TrustedManifest, TrustState

BUCKETS: Final = 10_000

Reason = Literal[
    "eligible",
    "already_installed",
    "nothing_offered",
    "not_in_percentage",
    "segment_not_reached",
    "paused",
    "version_locked",
    "maintenance",
    "quarantined",
    "wrong_role",
    "wrong_hardware",
    "agent_too_old",
    "needs_earlier_release",
    "outside_window",
    "failed_here_before",
    "below_floor",
    "holds_newer",
    "manifest_expired",
    "untrusted",
]
REASONS: Final[tuple[str, ...]] = Reason.__args__  # type: ignore[attr-defined]

Zones = Callable[[str], tzinfo | None]
"""Looks up a time zone by name; None for one it does not know. Passed in, since zone data are files."""


def utc_only(name: str) -> tzinfo | None:
    """A `Zones` that knows only UTC."""
    return timezone.utc if name == "UTC" else None  # noqa: UP017  (datetime.UTC is the same object)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a device knows of itself; heartbeats carry the same.

    `retry` is the release named by a pending `redeploy`: it may be tried although it failed here.
    `refused` is the trust check that the last offered document failed, "" if it passed. `running_role` is the
    role of the running release when it is another than the device's, after a move between roles.
    """

    device_id: str
    role: str
    segment: str
    hardware: str = ""
    agent_version: str = "0"
    running: str | None = None
    running_sequence: int = 0
    running_role: str | None = None
    failed: tuple[str, ...] = ()
    floor: int = 0
    safe_mode: bool = False
    zone: str = "UTC"
    retry: str | None = None
    refused: str = ""


class Decision(msgspec.Struct, frozen=True):
    """The answer. `release` is what to start when `reason` is `eligible`, else what was considered.

    `ordered` says that going there is the hub's order (rollback or version lock), not an update.
    """

    reason: Reason
    release: Release | None = None
    check: str = ""
    detail: str = ""
    ordered: bool = False

    @property
    def eligible(self) -> bool:
        """Whether the device should start now."""
        return self.reason == "eligible"


def bucket(release_id: str, device_id: str) -> int:
    """Return the device's place, 0 to 9999, in the rollout of a release.

    First 8 bytes, big endian, of SHA-256 of `release_id:device_id`, modulo 10,000.
    """
    digest = hashlib.sha256(f"{release_id}:{device_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


def takes_candidate(release_id: str, device_id: str, basis_points: int) -> bool:
    """Whether the device is within the share. Raising the share only ever adds devices."""
    return bucket(release_id, device_id) < basis_points


def decide(
    trusted: TrustState,
    manifest: TrustedManifest | None,
    desired: TrustedDesired | None,
    facts: Facts,
    now: int,
    zones: Zones = utc_only,
) -> Decision:
    """Return what the device should do at `now` (ms). Rules, first match answers:

     1. An expired root starts nothing: `untrusted`, check `root_expired`.
     2. No manifest: `untrusted` with the check that refused the one offered, else `nothing_offered`.
     3. A manifest for another role: `wrong_role`. One for another segment, as just after a move:
        `nothing_offered`. A running release of another role has no sequence to compare with.
     4. The target is the version lock, else the candidate if the device is in its share or runs it already,
        else the stable release. No target: `nothing_offered`, or why the candidate does not count
        (`segment_not_reached` at share 0, `not_in_percentage`).
     5. Running the target: `already_installed`; or, when something else is on offer, why it is not taken:
        `version_locked`, `paused`, `segment_not_reached`, `not_in_percentage`.
     6. Safe mode, desired `safe_mode: on`, or a desired `quarantine`, which says why: `quarantined`, unless `redeploy`
        names the target.
     7. Desired `maintenance`: `maintenance`.
     8. Paused: `paused`, except for an order (version lock or rollback, each later than the pause it overrides), and
        except that a device with nothing installed may take the stable release.
     9. The target's sequence is below the highest floor seen: `below_floor`.
    10. Running a later sequence than the target, with neither a lock nor a rollback ordered from that
        sequence or a later one: `holds_newer`.
    11. Hardware not listed: `wrong_hardware`. Agent below `min_agent`, or a version nobody can read:
        `agent_too_old`.
    12. Running a sequence below `from_sequence`: the highest fitting waypoint becomes the target, else
        `needs_earlier_release`.
    13. Failed here before and no `redeploy` names it: `failed_here_before`.
    14. Manifest past its expiry: `manifest_expired` (pause was already obeyed).
    15. Outside the window, or a window nobody can read: `outside_window`.
    16. `eligible`.
    """
    now = max(now, manifest.manifest.issued_at) if manifest else now
    if trusted.expired(now):
        return Decision("untrusted", check="root_expired", detail="the root of trust has expired")
    if manifest is None:
        if facts.refused:
            return Decision("untrusted", check=facts.refused, detail="no trusted manifest")
        return Decision("nothing_offered")
    if manifest.manifest.role != facts.role:
        return Decision("wrong_role", detail=f"manifest of {manifest.manifest.role}, device is {facts.role}")
    if manifest.manifest.segment != facts.segment:
        return Decision("nothing_offered", detail=f"manifest of {manifest.manifest.segment} only")
    facts = msgspec.structs.replace(
        facts,
        floor=max(facts.floor, trusted.floor(facts.role)),
        running_sequence=facts.running_sequence if facts.running_role in (None, facts.role) else 0,
    )
    lock = desired.version_lock if desired else None
    if lock is not None and lock.role != facts.role:
        return Decision("wrong_role", lock, detail=f"locked to a release of {lock.role}")
    target, passed_over = _target(manifest, lock, facts)
    if target is None:
        return Decision(passed_over or "nothing_offered", manifest.candidate)
    if facts.running == target.id:
        if passed_over:
            return Decision(passed_over, manifest.candidate)
        return Decision("already_installed", target)
    ordered = lock is not None or _rollback_ordered(manifest, facts, target)
    refusal = (
        _device_refuses(manifest, desired, facts, target, ordered=ordered)
        or _order_refuses(facts, target, ordered)
        or _unfit(facts, target)
    )
    if refusal:
        return refusal
    if facts.running is not None and target.requires.from_sequence > facts.running_sequence:
        step = _waypoint(manifest, facts, target)
        if step is None:
            return Decision(
                "needs_earlier_release",
                target,
                detail=f"needs sequence {target.requires.from_sequence} first, runs {facts.running_sequence}",
            )
        target = step
    if target.id in facts.failed and facts.retry != target.id:
        return Decision("failed_here_before", target)
    if now >= manifest.manifest.expires_at:
        return Decision("manifest_expired", target)
    if not in_window(manifest.manifest.window, facts.zone, now, zones):
        return Decision("outside_window", target)
    return Decision("eligible", target, ordered=ordered)


def _target(
    manifest: TrustedManifest, lock: Release | None, facts: Facts
) -> tuple[Release | None, Reason | None]:
    """Return the release this device belongs on, and why a candidate that is on offer is not it."""
    candidate, share = manifest.candidate, manifest.manifest.basis_points
    if lock is not None:
        offered = candidate or manifest.stable
        return lock, "version_locked" if offered is not None and offered.id != lock.id else None
    if candidate is None:
        return manifest.stable, None
    if facts.running == candidate.id:
        return candidate, None
    if not takes_candidate(candidate.id, facts.device_id, share):
        return manifest.stable, "segment_not_reached" if share == 0 else "not_in_percentage"
    if manifest.manifest.paused:
        return manifest.stable, "paused"
    return candidate, None


def _rollback_ordered(manifest: TrustedManifest, facts: Facts, target: Release) -> bool:
    return target.sequence < facts.running_sequence <= manifest.manifest.rollback_from


def _device_refuses(
    manifest: TrustedManifest, desired: TrustedDesired | None, facts: Facts, target: Release, *, ordered: bool
) -> Decision | None:
    held = _held_back(desired, facts)
    if held and facts.retry != target.id:
        return Decision("quarantined", target, detail=held)
    if desired is not None and desired.desired.maintenance:
        return Decision("maintenance", target)
    if manifest.manifest.paused and not ordered and facts.running is not None:
        return Decision("paused", target)
    return None


def _held_back(desired: TrustedDesired | None, facts: Facts) -> str:
    if desired is not None and desired.desired.quarantine:
        return desired.desired.quarantine
    if facts.safe_mode:
        return "the device is in safe mode"
    return "safe mode is ordered" if desired is not None and desired.desired.safe_mode == "on" else ""


def _order_refuses(facts: Facts, target: Release, ordered: bool) -> Decision | None:
    if target.sequence < facts.floor:
        return Decision("below_floor", target, detail=f"sequence {target.sequence}, floor {facts.floor}")
    if target.sequence < facts.running_sequence and not ordered:
        return Decision("holds_newer", target, detail=f"runs sequence {facts.running_sequence}")
    return None


def _unfit(facts: Facts, target: Release) -> Decision | None:
    hardware = target.requires.hardware
    if hardware and facts.hardware not in hardware:
        return Decision(
            "wrong_hardware", target, detail=f"{facts.hardware!r} is not among {', '.join(hardware)}"
        )
    if not version_at_least(facts.agent_version, target.requires.min_agent):
        return Decision(
            "agent_too_old", target, detail=f"agent {facts.agent_version}, needs {target.requires.min_agent}"
        )
    return None


def _waypoint(manifest: TrustedManifest, facts: Facts, target: Release) -> Release | None:
    fitting = [
        step
        for step in manifest.waypoints
        if facts.running_sequence < step.sequence < target.sequence
        and step.requires.from_sequence <= facts.running_sequence
        and step.sequence >= facts.floor
        and _unfit(facts, step) is None
    ]
    return max(fitting, key=lambda step: step.sequence, default=None)


def version_at_least(version: str, least: str) -> bool:
    """Whether dotted-number `version` is `least` or later. A text that is not dotted numbers never is.

    >>> version_at_least("1.10.0", "1.9"), version_at_least("1.9", "1.10"), version_at_least("?", "1")
    (True, False, False)
    """
    have, need = _numbers(version), _numbers(least)
    if have is None or need is None:
        return False
    width = max(len(have), len(need))
    return have + (0,) * (width - len(have)) >= need + (0,) * (width - len(need))


@lru_cache(maxsize=256)
def _numbers(version: str) -> tuple[int, ...] | None:
    parts = version.split(".")
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        return None
    return tuple(int(part) for part in parts)


def in_window(window: Window | None, device_zone: str, now: int, zones: Zones) -> bool:
    """Whether `now` (ms) lies in the window, on the wall clock of its zone.

    `start` is in, `end` is out; equal ones mean the whole day. A window past midnight belongs to the day
    it starts on. Wall-clock time decides, so when daylight saving skips an hour the window is that much
    shorter and when it repeats one, that much longer. A zone nobody knows refuses.
    """
    if window is None:
        return True
    zone = zones(device_zone if window.zone == "device" else window.zone)
    if zone is None:
        return False
    try:
        local = datetime.fromtimestamp(now / 1000, zone)
    except (OverflowError, ValueError):
        return False  # a time beyond the calendar, in some zones already on the last day of 9999
    minute = local.hour * 60 + local.minute
    start, end = _minute(window.start), _minute(window.end)
    today, yesterday = local.weekday(), (local - timedelta(days=1)).weekday()
    if start < end:
        return today in window.days and start <= minute < end
    return (today in window.days and minute >= start) or (yesterday in window.days and minute < end)


def _minute(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)
