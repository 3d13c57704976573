"""A release's row: reading it, showing it, moving its state, and the event that tells of it."""

from __future__ import annotations

from typing import Any, Final

from hub import trustroots
from hub.caller import Caller
from hub.errors import Conflict, NotFound
from hub.events import Event, append
from hub.store import Row, Tx
from hub.times import rfc3339
from topics.errors import TrustError
from topics.trust import open_release

SELECT_RELEASE: Final = (
    "SELECT releases.*, schedules.segment AS due_segment, schedules.basis_points AS due_share, "
    "schedules.not_before AS due_at, schedules.actor AS due_by, "
    "schedules.reason AS due_reason FROM releases "
    "LEFT JOIN schedules ON schedules.release_id = releases.id"
)
"""What `release_view` shows; a condition follows."""


def get_release(tx: Tx, release_id: str) -> Row:
    """Return a release's row; raises `NotFound`."""
    row = tx.one(f"{SELECT_RELEASE} WHERE releases.id = :id", {"id": release_id})
    if row is None:
        raise NotFound(f"There is no release {release_id}.")
    return row


def check_trusted(tx: Tx, release: Row) -> None:
    """Raise `Conflict` when devices under the newest root would not trust a release."""
    root = trustroots.latest(tx)
    try:
        open_release(root, release["envelope"], role=release["role"])
    except TrustError as error:
        raise Conflict(
            f"Devices would not trust {release['id']} under root {root.version}: {error.detail}; sign it again and "
            "publish it again.",
            rule=error.check,
        ) from None


def release_view(row: Row) -> dict[str, Any]:
    """Return a release as the API shows it, from a row of `SELECT_RELEASE`; its own times stay in ms."""
    scheduled = row["due_at"] is not None
    return {
        "id": row["id"],
        "role": row["role"],
        "sequence": row["sequence"],
        "version": row["version"],
        "commit": row["commit_id"],
        "state": row["state"],
        "segment": row["segment"],
        "basis_points": row["basis_points"],
        "paused": row["state"] in ("paused", "halted"),
        "reason": row["reason"],
        "scheduled": {
            "segment": row["due_segment"],
            "basis_points": row["due_share"],
            "not_before": rfc3339(row["due_at"]),
            "actor": row["due_by"],
        }
        if scheduled
        else None,
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


def set_state(tx: Tx, release_id: str, state: str, reason: str, now: int) -> None:
    """Move a release to another state; `now` in ms."""
    tx.execute(
        "UPDATE releases SET state = :state, reason = :reason, updated_at = :now WHERE id = :id",
        {"state": state, "reason": reason, "now": now, "id": release_id},
    )


def record(
    tx: Tx,
    kind: str,
    release_id: str | None,
    role: str | None,
    caller: Caller,
    now: int,
    reason: str = "",
    body: dict[str, Any] | None = None,
) -> None:
    """Write the event of a change to a release."""
    event = Event(kind=kind, release_id=release_id, role=role, reason=reason, body=body or {})
    append(tx, event, caller, now)
