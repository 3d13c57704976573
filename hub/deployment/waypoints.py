"""Releases that a device too old for the one on offer has to take first.

A release may say `requires.from_sequence`: a device that runs an earlier one needs a step in between. The hub puts the
steps into the manifest, and each device walks them by itself, since `topics.eligibility.decide` names the next one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from hub import trustroots
from hub.store import Row, Tx
from topics.documents import Release
from topics.errors import TrustError
from topics.trust import open_release

MOST: Final = 8
"""Waypoints of a manifest, at the most; as `topics.documents.Manifest` has it."""


class Step(msgspec.Struct, frozen=True):
    """A release with the bytes that devices are sent."""

    release: Release
    envelope: bytes


def way(target: Release, pool: Iterable[Step]) -> list[Step]:
    """Return the steps from the oldest releases to `target`, the last one first. Rules:

    1. A step is a release of the pool at or above what the next one requires, and below that one.
    2. Of several, one that any hardware may take; then the one that asks for least itself, since the way is
       then shortest; then the latest.
    3. Where nothing fits the way ends: older devices answer `needs_earlier_release`.
    """
    known = list(pool)
    found: list[Step] = []
    after = target
    while after.requires.from_sequence > 0 and len(found) < MOST:
        fitting = [
            step
            for step in known
            if step.release.role == target.role
            and after.requires.from_sequence <= step.release.sequence < after.sequence
        ]
        if not fitting:
            break
        best = min(fitting, key=_preference)
        found.append(best)
        after = best.release
    return found


def _preference(step: Step) -> tuple[bool, int, int]:
    requires = step.release.requires
    return bool(requires.hardware), requires.from_sequence, -step.release.sequence


def steps_to(tx: Tx, releases: Iterable[Row | None]) -> list[Step]:
    """Return the waypoints of a manifest that offers `releases` (their rows), each once.

    Only releases that completed their own rollout, that devices under the newest root trust, and whose bundle is
    still stored, are steps.
    """
    found: dict[str, Step] = {}
    for row in releases:
        if row is None:
            continue
        root = trustroots.latest(tx)
        try:
            target = open_release(root, row["envelope"])
        except TrustError:
            # It was refused when it was promoted, or the root would have been: no device would take it either.
            continue
        if target.requires.from_sequence > 0:
            for step in way(target, _pool(tx, target)):
                found.setdefault(step.release.id, step)
    return list(found.values())[:MOST]


def _pool(tx: Tx, target: Release) -> list[Step]:
    root = trustroots.latest(tx)
    pool = []
    for row in tx.all(
        "SELECT envelope FROM releases WHERE role = :role AND sequence < :sequence AND state = 'complete' "
        "AND id IN (SELECT release_id FROM artifacts)",
        {"role": target.role, "sequence": target.sequence},
    ):
        try:
            pool.append(Step(open_release(root, row["envelope"]), row["envelope"]))
        except TrustError:
            continue
    return pool


def begin(tx: Tx, release: Row, segment: str) -> None:
    """Note from when on attempts at a waypoint, of devices of `segment`, are steps of the rollout of `release`.

    An attempt is written with the epoch of its release, so a new epoch of the waypoint parts those that follow from
    those of its own rollout.
    """
    began = tx.one("SELECT 1 AS found FROM ways WHERE release_id = :id LIMIT 1", {"id": release["id"]})
    for step in steps_to(tx, [release]):
        where = {"id": release["id"], "step": step.release.id, "segment": segment}
        if began is None:
            tx.execute(
                "UPDATE releases SET epoch = releases.epoch + 1 WHERE id = :step", {"step": where["step"]}
            )
        tx.execute(
            "INSERT INTO ways (release_id, segment, step_id, epoch, judged_epoch) "
            "SELECT :id, :segment, releases.id, releases.epoch, releases.epoch FROM releases WHERE releases.id = :step "
            "ON CONFLICT (release_id, segment, step_id) DO NOTHING",
            where,
        )


def look_past(tx: Tx, release_id: str) -> None:
    """Let failures at the steps of a rollout be looked at: those that follow are of another epoch."""
    steps = "SELECT ways.step_id FROM ways WHERE ways.release_id = :id"
    tx.execute(f"UPDATE releases SET epoch = releases.epoch + 1 WHERE id IN ({steps})", {"id": release_id})  # noqa: S608
    tx.execute(
        "UPDATE ways SET judged_epoch = (SELECT releases.epoch FROM releases WHERE releases.id = ways.step_id) "
        "WHERE release_id = :id",
        {"id": release_id},
    )
