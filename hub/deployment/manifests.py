"""From rows to the retained manifest of one role and segment."""

from __future__ import annotations

from typing import Any, Literal, cast

import msgspec

from hub.deployment.policy import Policy
from hub.deployment.waypoints import Step, steps_to
from hub.signer import MANIFEST_LIFETIME_MS, Signer
from hub.store import Row, Tx
from topics.channels import MANIFEST
from topics.documents import Manifest, Segment
from topics.names import SEGMENTS

EventName = Literal["update_available", "pause", "rollback", "refresh"]


def ensure_role(tx: Tx, signer: Signer, role: str, sources: list[str], now: int) -> None:
    """Hoist an empty manifest for every segment of a role that has none, so a device knows it heard everything."""
    for segment in SEGMENTS:
        added = tx.execute(
            "INSERT INTO segments (role, segment) VALUES (:role, :segment) ON CONFLICT (role, segment) DO NOTHING",
            {"role": role, "segment": segment},
        )
        if added:
            hoist_segment(tx, signer, role, segment, sources, now)


def hoist_segment(tx: Tx, signer: Signer, role: str, segment: str, sources: list[str], now: int) -> None:
    """Sign the manifest that the segment's row asks for and store it as wanted on its topic."""
    row = tx.one(
        "SELECT * FROM segments WHERE role = :role AND segment = :segment", {"role": role, "segment": segment}
    )
    if row is None:
        raise LookupError(f"no segment row for {role}/{segment}")
    stable, candidate = _release(tx, row["stable_id"]), _release(tx, row["candidate_id"])
    topic = MANIFEST.topic(signer.fleet, role=role, segment=segment)
    steps = steps_to(tx, (stable, candidate))
    tx.execute(
        "UPDATE segments SET waypoints = :steps WHERE role = :role AND segment = :segment",
        {
            "steps": msgspec.json.encode([step.release.id for step in steps]).decode(),
            "role": role,
            "segment": segment,
        },
    )
    signer.hoist(
        tx,
        topic,
        "manifest",
        lambda issued_at: manifest_of(signer.fleet, row, stable, candidate, steps, sources, issued_at),
        now=now,
        expires_at=now + MANIFEST_LIFETIME_MS,
    )


def manifest_of(
    fleet: str,
    row: Row,
    stable: Row | None,
    candidate: Row | None,
    steps: list[Step],
    sources: list[str],
    issued_at: int,
) -> Manifest:
    """Return the manifest that a segment's row asks for; the candidate's policy counts, else the stable one's."""
    policy = policy_of(candidate or stable)
    return Manifest(
        to=MANIFEST.topic(fleet, role=row["role"], segment=row["segment"]),
        fleet=fleet,
        role=row["role"],
        segment=cast("Segment", row["segment"]),
        issued_at=issued_at,
        expires_at=issued_at + MANIFEST_LIFETIME_MS,
        event=cast("EventName", row["event"]),
        stable=stable["envelope"] if stable else None,
        candidate=candidate["envelope"] if candidate else None,
        basis_points=row["basis_points"],
        paused=bool(row["paused"]),
        rollback_from=row["rollback_from"],
        spread_seconds=policy.spread_seconds,
        window=policy.window,
        waypoints=[step.envelope for step in steps],
        sources=sources,
    )


def hoist_where(
    tx: Tx, signer: Signer, condition: str, params: dict[str, Any], sources: list[str], now: int
) -> int:
    """Hoist every segment whose row meets `condition`, constant SQL of ours; return how many."""
    rows = tx.all(f"SELECT role, segment FROM segments WHERE {condition}", params)  # noqa: S608
    for row in rows:
        hoist_segment(tx, signer, row["role"], row["segment"], sources, now)
    return len(rows)


def policy_of(release: Row | None) -> Policy:
    """Return the policy a release was declared with, or the default one."""
    return msgspec.json.decode(release["policy"], type=Policy) if release else Policy()


def _release(tx: Tx, release_id: str | None) -> Row | None:
    if release_id is None:
        return None
    return tx.one("SELECT id, envelope, policy FROM releases WHERE id = :id", {"id": release_id})
