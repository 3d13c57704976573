"""What a promotion would do, asked of the same decision that every device runs, on its last heartbeat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from hub import trustroots, verified
from hub.deployment.manifests import manifest_of
from hub.deployment.views import facts_of, status_of
from hub.deployment.waypoints import steps_to
from hub.desired import desired_of
from hub.store import Row, Tx
from topics.documents import Release
from topics.eligibility import Facts, Zones, decide, takes_candidate
from topics.trust import TrustedDesired, TrustedManifest, TrustState

LISTED: Final = 500
"""Devices that are named; the rest are counted."""
PAGE: Final = 1_000
"""Devices held in memory at a time."""

_DEVICES: Final = """
SELECT devices.*, device_latest.body AS status FROM devices
LEFT JOIN device_latest ON device_latest.device_key = devices.key
WHERE devices.role = :role AND devices.segment = :segment AND devices.revoked_at IS NULL
AND devices.device_id > :after ORDER BY devices.device_id LIMIT :limit
"""


def preview(
    tx: Tx, fleet: str, release: Row, segment: str, share: int, zones: Zones, *, now: int
) -> dict[str, Any]:
    """Return who in `segment` would take `release` at `share` basis points at `now` (ms), and why others would not."""
    known = trustroots.latest_state(tx)
    manifest = _manifest(tx, known, fleet, release, segment, share, now)
    state = _having_seen(known, manifest.stable, manifest.candidate, *manifest.waypoints)
    locks: dict[str, Release] = {}
    told: dict[tuple[Any, ...], TrustedDesired] = {}
    reasons: Counter[str] = Counter()
    by_way: Counter[str] = Counter()
    movers: list[str] = []
    for row in _devices(tx, release["role"], segment):
        lock = _lock(tx, state, row["version_lock"], locks)
        desired = _desired(row, fleet, lock, now, told)
        believes = _having_seen(state, lock) if lock else state
        decision = decide(believes, manifest, desired, _facts(row), now, zones)
        step = decision.release.id if decision.eligible and decision.release is not None else None
        if step is not None and _leads_to(step, release["id"], row, manifest, lock):
            reasons["eligible"] += 1
            if step != release["id"]:
                by_way[step] += 1
            if len(movers) < LISTED:
                movers.append(row["device_id"])
        else:
            # Eligible for the stable release is not what was asked: such a device is outside the share.
            reasons["not_in_percentage" if decision.eligible else decision.reason] += 1
    return {
        "devices": sum(reasons.values()),
        "by_reason": dict(sorted(reasons.items())),
        "by_waypoint": dict(sorted(by_way.items())),
        "would_move": movers,
        "more": reasons["eligible"] - len(movers),
    }


def _devices(tx: Tx, role: str, segment: str) -> Iterator[Row]:
    after = ""
    while rows := tx.all(_DEVICES, {"role": role, "segment": segment, "after": after, "limit": PAGE}):
        yield from rows
        after = rows[-1]["device_id"]


def _leads_to(step: str, release_id: str, row: Row, manifest: TrustedManifest, lock: Release | None) -> bool:
    """Whether the release that a device would start now is the one that is asked about, or the way to it."""
    if step == release_id:
        return True
    is_on_the_way = any(waypoint.id == step for waypoint in manifest.waypoints)
    share = manifest.manifest.basis_points
    return is_on_the_way and lock is None and takes_candidate(release_id, row["device_id"], share)


def _manifest(
    tx: Tx, state: TrustState, fleet: str, release: Row, segment: str, share: int, now: int
) -> TrustedManifest:
    row = tx.one(
        "SELECT * FROM segments WHERE role = :role AND segment = :segment",
        {"role": release["role"], "segment": segment},
    )
    if row is None:
        raise LookupError(f"no segment row for {release['role']}/{segment}")
    stable = tx.one("SELECT * FROM releases WHERE id = :id", {"id": row["stable_id"]})
    steps = steps_to(tx, (stable, release))
    document = msgspec.structs.replace(
        manifest_of(fleet, row, stable, release, steps, [], now), basis_points=share, paused=False
    )
    return TrustedManifest(
        document,
        verified.release(state, stable["envelope"]) if stable else None,
        verified.release(state, release["envelope"]),
        tuple(step.release for step in steps),
    )


def _desired(
    row: Row, fleet: str, lock: Release | None, now: int, known: dict[tuple[Any, ...], TrustedDesired]
) -> TrustedDesired:
    """Return what the device is told, as far as it decides by it: the same for all that are asked the same of."""
    key = (row["version_lock"], row["maintenance"], row["safe_mode"], row["quarantine_rule"])
    if key not in known:
        known[key] = TrustedDesired(desired_of(row, fleet, None, now), lock)
    return known[key]


def _having_seen(state: TrustState, *releases: Release | None) -> TrustState:
    """Return the state of a device that was told of `releases`, whose floors it keeps to from then on."""
    seen = [TrustState(state.root, state.root_bytes, floors={r.role: r.floor}) for r in releases if r]
    return verified.floors(state, *seen)


def _facts(row: Row) -> Facts:
    status = status_of(row["status"])
    if status is None:
        return Facts(
            device_id=row["device_id"], role=row["role"], segment=row["segment"], hardware=row["hardware"]
        )
    return facts_of(row["device_id"], row["role"], row["segment"], status)


def _lock(tx: Tx, state: TrustState, release_id: str | None, known: dict[str, Release]) -> Release | None:
    if release_id is None:
        return None
    if release_id not in known:
        row = tx.one("SELECT envelope FROM releases WHERE id = :id", {"id": release_id})
        if row is None:
            return None
        known[release_id] = verified.release(state, row["envelope"])
    return known[release_id]
