"""A release's row: reading it, showing it, moving its state, and the event that tells of it."""

from __future__ import annotations

from typing import Any

from hub import trustroots
from hub.caller import Caller
from hub.errors import Conflict, NotFound
from hub.events import Event, append
from hub.store import Row, Tx
from topics.errors import TrustError
from topics.trust import open_release


def get_release(tx: Tx, release_id: str) -> Row:
    """Return a release's row; raises `NotFound`."""
    row = tx.one("SELECT * FROM releases WHERE id = :id", {"id": release_id})
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
    """Return a release as the API shows it; times stay in ms for the caller to format."""
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
