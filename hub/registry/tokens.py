"""Enrolment tokens after they were made: listed without their secret, and withdrawn."""

from __future__ import annotations

from typing import Any, Literal

from hub.caller import Caller
from hub.errors import Invalid, NotFound
from hub.events import Event, append
from hub.store import Row, Store, Tx
from hub.times import rfc3339

MAX_LIMIT = 500


def state(row: Row, now: int) -> Literal["open", "used", "expired", "revoked"]:
    """Return whether a row of `tokens` may still be used at `now` (ms), or why not."""
    if row["revoked_at"] is not None:
        return "revoked"
    if row["expires_at"] <= now:
        return "expired"
    return "open" if row["uses_left"] > 0 else "used"


def page(tx: Tx, *, limit: int, cursor: str | None, now: int) -> dict[str, Any]:
    """Return one page of tokens, the newest first, and the cursor of the next. A limit out of range is an error."""
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit must be 1 to {MAX_LIMIT}.", rule="limit")
    before, last = _place(cursor)
    rows = tx.all(
        "SELECT * FROM tokens WHERE created_at < :before OR (created_at = :before AND id > :last) "
        "ORDER BY created_at DESC, id LIMIT :limit",
        {"before": before, "last": last, "limit": limit + 1},
    )
    shown = rows[:limit]
    more = f"{shown[-1]['created_at']}.{shown[-1]['id']}" if len(rows) > limit else None
    return {"items": [_view(row, now) for row in shown], "next_cursor": more}


def revoke(store: Store, token_id: str, caller: Caller, now: int) -> None:
    """Let nobody use a token from now on; who has used it stays enrolled. `now` in ms. Raises `NotFound`."""
    with store.write() as tx:
        row = tx.one("SELECT * FROM tokens WHERE id = :id", {"id": token_id})
        if row is None:
            raise NotFound(f"There is no enrolment token {token_id}.")
        if row["revoked_at"] is not None:
            return
        tx.execute("UPDATE tokens SET revoked_at = :now WHERE id = :id", {"now": now, "id": token_id})
        body = {"token": token_id, "segment": row["segment"], "uses_left": row["uses_left"]}
        append(tx, Event(kind="token.revoked", role=row["role"], body=body), caller, now)


def _view(row: Row, now: int) -> dict[str, Any]:
    return {
        "id": row["id"],
        "role": row["role"],
        "segment": row["segment"],
        "state": state(row, now),
        "uses": row["uses"],
        "uses_left": row["uses_left"],
        "expires_at": rfc3339(row["expires_at"]),
        "created_at": rfc3339(row["created_at"]),
        "created_by": row["created_by"],
        "revoked_at": rfc3339(row["revoked_at"]),
    }


def _place(cursor: str | None) -> tuple[int, str]:
    """Return the time and id after which a page begins."""
    if cursor is None:
        return 2**62, ""
    time, dot, last = cursor.partition(".")
    if not (dot and time.isascii() and time.isdigit() and len(time) < 19):
        raise Invalid("cursor must be the next_cursor of an earlier page.", rule="cursor")
    return int(time), last
