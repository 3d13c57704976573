"""The stages of a rollout: one per segment, with who started it and why, and when and why it ended."""

from __future__ import annotations

from typing import Any

from hub.caller import Caller
from hub.store import Tx
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
    """Begin the stage of `target`, or widen its share; the stage before it ends. `now` in ms."""
    if previous != target:
        finish(tx, release_id, f"promoted to {target}", now)
    tx.execute(
        "INSERT INTO stages (release_id, segment, started_at, full_at, started_by, start_reason) "
        "VALUES (:id, :segment, :now, :full_at, :by, :reason) "
        "ON CONFLICT (release_id, segment) DO UPDATE SET full_at = COALESCE(stages.full_at, excluded.full_at)",
        {
            "id": release_id,
            "segment": target,
            "now": now,
            "full_at": now if share == 10_000 else None,
            "by": caller.name,
            "reason": reason,
        },
    )


def finish(tx: Tx, release_id: str, reason: str, now: int) -> None:
    """End the stage that is open, if one is."""
    tx.execute(
        "UPDATE stages SET finished_at = :now, reason = :reason WHERE release_id = :id AND finished_at IS NULL",
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
    tx.execute(
        "UPDATE stages SET full_at = stages.full_at + COALESCE("
        "(SELECT :now - releases.stopped_at FROM releases WHERE releases.id = stages.release_id), 0) "
        "WHERE release_id = :id AND finished_at IS NULL",
        {"now": now, "id": release_id},
    )
    tx.execute("UPDATE releases SET stopped_at = NULL WHERE id = :id", {"id": release_id})


def shown(tx: Tx, release_id: str) -> list[dict[str, Any]]:
    """Return the stages of a release in their order, as the API shows them."""
    rows = {
        row["segment"]: row
        for row in tx.all("SELECT * FROM stages WHERE release_id = :id", {"id": release_id})
    }
    return [
        {
            "segment": segment,
            "started_at": rfc3339(rows[segment]["started_at"]),
            "started_by": rows[segment]["started_by"],
            "start_reason": rows[segment]["start_reason"],
            "full_at": rfc3339(rows[segment]["full_at"]),
            "finished_at": rfc3339(rows[segment]["finished_at"]),
            "finish_reason": rows[segment]["reason"],
        }
        for segment in SEGMENTS
        if segment in rows
    ]
