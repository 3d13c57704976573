"""What operators ask of a rollout: its progress, and whether one device is eligible. Reading only."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, Final

import msgspec

from hub import phases, trustroots, verified
from hub.deployment import counts, rules, shares
from hub.deployment import stages as staged
from hub.deployment.manifests import policy_of
from hub.deployment.policy import WHOLE, Policy
from hub.deployment.records import SELECT_RELEASE, get_release, release_view
from hub.deployment.rules import Counts
from hub.errors import Conflict, Invalid, NotFound
from hub.store import Row, Tx
from hub.times import rfc3339
from topics import codec
from topics.channels import DESIRED, MANIFEST, UPLINK_LIMIT
from topics.eligibility import Decision, Facts, Zones, bucket, decide
from topics.errors import DecodeError, TrustError
from topics.messages import Status
from topics.names import SEGMENTS
from topics.trust import TrustedManifest, TrustState

MAX_LIMIT = 500
"""Largest page of a list."""

_TOPIC: Final = MANIFEST.template.format(
    fleet="' || :fleet || '", role="' || devices.role || '", segment="' || devices.segment || '"
)
# One statement: each that is run costs as much as deciding does.
_ASKED: Final = f"""
SELECT devices.role, devices.segment, devices.hardware, device_latest.body AS status, device_latest.received_at,
    manifests.payload AS manifest, own.payload AS desired, releases.envelope AS offered, releases.role AS offered_role,
    (SELECT envelope FROM roots ORDER BY version DESC LIMIT 1) AS root
FROM devices
LEFT JOIN device_latest ON device_latest.device_key = devices.key
LEFT JOIN retained AS manifests ON manifests.topic = '{_TOPIC}'
LEFT JOIN retained AS own ON own.topic = :desired
LEFT JOIN releases ON releases.id = :release
WHERE devices.device_id = :device
"""  # noqa: S608  (our own constants)


def progress(tx: Tx, release_id: str, *, now: int, observed_since: int) -> dict[str, Any]:
    """Return the release with its counts per segment, and what keeps it from the next; times in ms.

    Costs the same for any fleet: tens of rows of kept counts, some hundred of kept times.
    """
    release = get_release(tx, release_id)
    policy = policy_of(release)
    known = counts.known(tx, release, policy, now=now, observed_since=observed_since)
    spent = _times(tx, release_id)
    held = counts.ended_and_held(tx, release_id)
    stages = {
        row["segment"]: row
        for row in tx.all("SELECT * FROM stages WHERE release_id = :id", {"id": release_id})
    }
    segments = []
    for segment in SEGMENTS:
        here = known.all.get(segment, Counts())
        share = _share(release, segment, stages)
        expected, exact = shares.expected(tx, release_id, release["role"], segment, share)
        ended = here.ended + sum(known.refused.get(segment, {}).values()) - held.get(segment, 0)
        segments.append(
            {
                "segment": segment,
                "share_basis_points": share,
                "expected": expected,
                "expected_exact": exact,
                "awaited": max(0, expected - ended),
                "began": here.began,
                "committed": here.committed,
                "failed": here.failed,
                "rolled_back": here.rolled_back,
                "lost": here.lost,
                "drifted": here.drifted,
                "safe_mode": here.safe_mode,
                "in_progress": here.in_progress,
                "refused": known.refused.get(segment, {}),
                "judged": _judged(known, segment),
                "started_at": stages[segment]["started_at"] if segment in stages else None,
                "finished_at": stages[segment]["finished_at"] if segment in stages else None,
                "forecast_at": rfc3339(_forecast(release, stages.get(segment), expected, ended, now)),
                "times_ms": {
                    phase: phases.percentiles(spent[segment, phase])
                    for phase in phases.ALL
                    if (segment, phase) in spent
                },
            }
        )
    return {
        **release_view(release),
        "gate": _gate(tx, release, known, policy, now),
        "step": _step(tx, release, known, policy, now),
        "policy": msgspec.to_builtins(policy),
        "segments": segments,
    }


def _judged(known: counts.Known, segment: str) -> dict[str, int]:
    """Return what the failure rules look at: without failures that somebody has resumed past."""
    here = known.judged.get(segment, Counts())
    return {"began": here.began, "ended": here.ended, "failures": here.failures}


def _times(tx: Tx, release_id: str) -> dict[tuple[str, str], dict[int, int]]:
    found: dict[tuple[str, str], dict[int, int]] = {}
    for row in tx.all("SELECT * FROM phase_times WHERE release_id = :id", {"id": release_id}):
        found.setdefault((row["segment"], row["phase"]), {})[row["step"]] = row["devices"]
    return found


def _forecast(release: Row, stage: Row | None, expected: int, ended: int, now: int) -> int | None:
    """Return when the devices of a segment will have ended; None where none are taking the release."""
    if stage is None or release["state"] != "rolling":
        return None
    return phases.forecast(expected=expected, ended=ended, started_at=stage["started_at"], now=now)


def _gate(tx: Tx, release: Row, known: counts.Known, policy: Policy, now: int) -> dict[str, Any] | None:
    """Return whether the present segment has passed its gate, and else by which rule not; None without one."""
    segment = release["segment"]
    if segment is None:
        return None
    here, waited = known.judged.get(segment, Counts()), staged.waited_whole(tx, release, now)
    return {
        "segment": segment,
        **_passed(lambda: rules.check_gate(release["id"], segment, here, waited, policy.segment(segment))),
    }


def _step(tx: Tx, release: Row, known: counts.Known, policy: Policy, now: int) -> dict[str, Any] | None:
    """Return whether the present share has shown enough for the next step; None where the policy has no more."""
    segment, share = release["segment"], release["basis_points"]
    if segment is None or share >= WHOLE or not policy.segment(segment).steps:
        return None
    here, waited = known.judged.get(segment, Counts()), staged.waited(tx, release, now) or 0.0
    steps = policy.segment(segment)
    return {
        "segment": segment,
        "basis_points": share,
        "next_basis_points": rules.shares_above(steps, share)[0],
        **_passed(lambda: rules.check_step(release["id"], segment, share, here, waited, steps)),
    }


def _passed(check: Callable[[], None]) -> dict[str, Any]:
    try:
        check()
    except Conflict as refusal:
        return {"passed": False, "refused_by": refusal.rule, "detail": refusal.detail}
    return {"passed": True, "refused_by": None, "detail": ""}


def _share(release: Row, segment: str, stages: dict[str, Row]) -> int:
    if segment not in stages:
        return 0
    return int(release["basis_points"]) if segment == release["segment"] else 10_000


def eligibility(
    tx: Tx, release_id: str, device_id: str, fleet: str, zones: Zones, *, now: int
) -> dict[str, Any]:
    """Return what `decide` says for the device about the release, on the facts of its last heartbeat.

    The manifest is the one that is retained; where it does not offer this release, it is asked as if it
    offered it to nobody, which is what the segment's devices would say.
    """
    row = tx.one(
        _ASKED,
        {
            "release": release_id,
            "device": device_id,
            "fleet": fleet,
            "desired": _desired_topic(fleet, device_id),
        },
    )
    if row is None or row["offered"] is None:
        get_release(tx, release_id)
        raise NotFound(f"There is no device {device_id}.")
    facts, as_of = _facts(device_id, row)
    state = verified.root(row["root"]) if row["root"] is not None else trustroots.latest_state(tx)
    share = None
    try:
        after, manifest = _trusted_manifest(state, fleet, row, now)
        asked = _as_offered(state, manifest, release_id, row)
        seen, desired = state, None
        if row["desired"] is not None:
            seen, desired = verified.desired(state, _desired_topic(fleet, device_id), row["desired"], now)
    except TrustError as error:
        decision = Decision("untrusted", check=error.check, detail=error.detail)
    else:
        share = asked.manifest.basis_points
        # The device raises its floor by what it is told, before its next heartbeat says so.
        decision = decide(verified.floors(after, seen), asked, desired, facts, now, zones)
    return {
        "device_id": device_id,
        "release": release_id,
        "reason": decision.reason,
        "target": decision.release.id if decision.release else None,
        "check": decision.check,
        "detail": decision.detail,
        "bucket": bucket(release_id, device_id),
        "basis_points": share,
        "as_of": as_of,
    }


def _desired_topic(fleet: str, device_id: str) -> str:
    return DESIRED.template.format(fleet=fleet, id=device_id)


def _facts(device_id: str, row: Row) -> tuple[Facts, int | None]:
    status = status_of(row["status"])
    if status is None:
        facts = Facts(device_id=device_id, role=row["role"], segment=row["segment"], hardware=row["hardware"])
        return facts, None
    return facts_of(device_id, row["role"], row["segment"], status), row["received_at"]


def facts_of(device_id: str, role: str, segment: str, status: Status) -> Facts:
    """Return the facts a heartbeat carries. Role and segment are the registry's, which the device will follow."""
    return Facts(
        device_id=device_id,
        role=role,
        segment=segment,
        hardware=status.hardware,
        agent_version=status.agent_version,
        running=status.running.id if status.running else None,
        running_sequence=status.running.sequence if status.running else 0,
        running_role=status.running.role if status.running else None,
        failed=tuple(status.failed),
        floor=status.floor,
        safe_mode=status.safe_mode,
        zone=status.zone,
    )


@lru_cache(maxsize=2048)
def status_of(body: bytes | None) -> Status | None:
    """Return the heartbeat kept of a device, None without one or for one of a later version."""
    if body is None:
        return None
    try:
        return codec.decode(body, Status, limit=UPLINK_LIMIT)
    except DecodeError:
        return None


def _trusted_manifest(
    state: TrustState, fleet: str, row: Row, now: int
) -> tuple[TrustState, TrustedManifest]:
    topic = _manifest_topic(fleet, row["role"], row["segment"])
    if row["manifest"] is None:
        raise NotFound(f"Nothing is retained on {topic}.")
    return verified.manifest(state, topic, row["manifest"], now)


@cache
def _manifest_topic(fleet: str, role: str, segment: str) -> str:
    return MANIFEST.topic(fleet, role=role, segment=segment)


def _as_offered(state: TrustState, manifest: TrustedManifest, release_id: str, row: Row) -> TrustedManifest:
    offered = {entry.id for entry in (manifest.stable, manifest.candidate) if entry}
    if release_id in offered or row["offered_role"] != manifest.manifest.role:
        return manifest
    candidate = verified.release(state, row["offered"])
    changed = msgspec.structs.replace(
        manifest.manifest, candidate=row["offered"], basis_points=0, paused=False
    )
    return msgspec.structs.replace(manifest, manifest=changed, candidate=candidate)


def retained(tx: Tx, topic: str) -> bytes:
    """Return the bytes that are wanted on a topic; raises `NotFound`."""
    row = tx.one("SELECT payload FROM retained WHERE topic = :topic", {"topic": topic})
    if row is None:
        raise NotFound(f"Nothing is retained on {topic}.")
    return bytes(row["payload"])


def page(tx: Tx, *, role: str | None, limit: int, cursor: int | None) -> dict[str, Any]:
    """Return one page of releases, newest sequence first; a limit out of range is an error."""
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit must be 1 to {MAX_LIMIT}.", rule="limit")
    where = ["releases.sequence < :cursor"]
    params: dict[str, Any] = {"cursor": cursor or 2**62, "limit": limit + 1}
    if role is not None:
        where.append("releases.role = :role")
        params["role"] = role
    rows = tx.all(
        f"{SELECT_RELEASE} WHERE {' AND '.join(where)} ORDER BY releases.sequence DESC, releases.id LIMIT :limit",
        params,
    )
    more = rows[limit - 1]["sequence"] if len(rows) > limit else None
    return {"items": [release_view(row) for row in rows[:limit]], "next_cursor": more}
