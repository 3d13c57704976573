"""The stages of a rollout, one per segment, and their steps, one per share of it.

Each says who started it and why, and when and why it ended.
"""

from __future__ import annotations

from typing import Any

from hub.caller import Caller
from hub.deployment.policy import WHOLE
from hub.store import Row, Tx
from hub.times import rfc3339
from topics.names import SEGMENTS


def start(
    tx: Tx,
    release_id: str,
    previous: str | None,
    target: str,
    share: int,
    caller: Caller,
    reason: str,
    now: int,
) -> None:
    """Begin the stage of `target`, or widen its share; the stage, or the step, before it ends. `now` in ms."""
    if previous != target:
        finish(tx, release_id, f"promoted to {target}", now)
    given = {
        "id": release_id,
        "segment": target,
        "share": share,
        "now": now,
        "full_at": now if share == WHOLE else None,
        "by": caller.name,
        "reason": reason,
    }
    tx.execute(
        "INSERT INTO stages (release_id, segment, started_at, full_at, started_by, start_reason) "
        "VALUES (:id, :segment, :now, :full_at, :by, :reason) "
        "ON CONFLICT (release_id, segment) DO UPDATE SET full_at = COALESCE(stages.full_at, excluded.full_at)",
        given,
    )
    tx.execute(
        "UPDATE steps SET finished_at = :now, reason = :raised "
        "WHERE release_id = :id AND finished_at IS NULL AND basis_points < :share",
        {**given, "raised": f"raised to {share / 100:g}%"},
    )
    tx.execute(
        "INSERT INTO steps (release_id, segment, basis_points, started_at, waits_from, started_by, start_reason) "
        "VALUES (:id, :segment, :share, :now, :now, :by, :reason) "
        "ON CONFLICT (release_id, segment, basis_points) DO NOTHING",
        given,
    )


def finish(tx: Tx, release_id: str, reason: str, now: int) -> None:
    """End the stage that is open, if one is, and its step."""
    for table in ("stages", "steps"):
        tx.execute(
            f"UPDATE {table} SET finished_at = :now, reason = :reason "  # noqa: S608  (our own constants)
            "WHERE release_id = :id AND finished_at IS NULL",
            {"now": now, "reason": reason, "id": release_id},
        )


def stand_still(tx: Tx, release_id: str, now: int) -> None:
    """Stop the wait of the open stage; a halt after a pause stands still since the pause."""
    tx.execute(
        "UPDATE releases SET stopped_at = COALESCE(stopped_at, :now) WHERE id = :id",
        {"now": now, "id": release_id},
    )


def go_on(tx: Tx, release_id: str, now: int) -> None:
    """Let the wait of the open stage go on: the time in which nothing was offered is no waiting."""
    for table, column in (("stages", "full_at"), ("steps", "waits_from")):
        tx.execute(
            f"UPDATE {table} SET {column} = {table}.{column} + COALESCE("  # noqa: S608  (our own constants)
            f"(SELECT :now - releases.stopped_at FROM releases WHERE releases.id = {table}.release_id), 0) "
            "WHERE release_id = :id AND finished_at IS NULL",
            {"now": now, "id": release_id},
        )
    tx.execute("UPDATE releases SET stopped_at = NULL WHERE id = :id", {"id": release_id})


def waited(tx: Tx, release: Row, now: int) -> float | None:
    """Return for how long (s) the present share of a release has been offered, None before its first promotion.

    While a rollout stands still its wait does too.
    """
    step = tx.one(
        "SELECT waits_from FROM steps WHERE release_id = :id AND segment = :segment AND basis_points = :share",
        {"id": release["id"], "segment": release["segment"], "share": release["basis_points"]},
    )
    return None if step is None else ((release["stopped_at"] or now) - step["waits_from"]) / 1000


def waited_whole(tx: Tx, release: Row, now: int) -> float | None:
    """Return the same, None as long as only a part of the segment is offered the release."""
    return waited(tx, release, now) if release["basis_points"] == WHOLE else None


def shown(tx: Tx, release_id: str) -> list[dict[str, Any]]:
    """Return the stages of a release in their order, each with its steps, as the API shows them."""
    rows = {
        row["segment"]: row
        for row in tx.all("SELECT * FROM stages WHERE release_id = :id", {"id": release_id})
    }
    steps = tx.all("SELECT * FROM steps WHERE release_id = :id ORDER BY basis_points", {"id": release_id})
    return [
        {
            "segment": segment,
            **_shown(rows[segment]),
            "full_at": rfc3339(rows[segment]["full_at"]),
            "steps": [
                {"basis_points": step["basis_points"], **_shown(step)}
                for step in steps
                if step["segment"] == segment
            ],
        }
        for segment in SEGMENTS
        if segment in rows
    ]


def _shown(row: Row) -> dict[str, Any]:
    return {
        "started_at": rfc3339(row["started_at"]),
        "started_by": row["started_by"],
        "start_reason": row["start_reason"],
        "finished_at": rfc3339(row["finished_at"]),
        "finish_reason": row["reason"],
    }
