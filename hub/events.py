"""The event log: one append-only table that is outbox, audit and timeline at once.

A row is written in the transaction of the change it tells of, without a number. The sealer, run by the
leader alone, then numbers rows in the order in which they became visible and chains their hashes, so that
consumers can follow `n` without ever missing a row that committed late.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from hub.caller import Caller
from hub.store import Row, Tx
from hub.times import rfc3339

GENESIS: Final = "0" * 64
_encoder = msgspec.json.Encoder(order="sorted")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What happened. `body` holds before and after, or whatever the kind documents."""

    kind: str
    device_id: str | None = None
    release_id: str | None = None
    role: str | None = None
    reason: str = ""
    body: dict[str, Any] = {}


def append(tx: Tx, event: Event, caller: Caller, now: int) -> None:
    """Write `event` in the transaction of the change; `now` is in ms."""
    tx.execute(
        "INSERT INTO events (at, kind, actor, device_id, release_id, role, reason, body, request_id) "
        "VALUES (:at, :kind, :actor, :device_id, :release_id, :role, :reason, :body, :request_id)",
        {
            "at": now,
            "kind": event.kind,
            "actor": caller.name,
            "device_id": event.device_id,
            "release_id": event.release_id,
            "role": event.role,
            "reason": event.reason,
            "body": _encoder.encode(event.body).decode(),
            "request_id": caller.request_id,
        },
    )


def seal(tx: Tx, *, limit: int = 5_000) -> int:
    """Number and chain up to `limit` rows that have no number yet; return how many. Only the leader may."""
    rows = tx.all("SELECT * FROM events WHERE n IS NULL ORDER BY id LIMIT :limit", {"limit": limit})
    if not rows:
        return 0
    last = tx.one("SELECT n, hash FROM events WHERE n IS NOT NULL ORDER BY n DESC LIMIT 1")
    n, previous = (last["n"], last["hash"]) if last else (0, GENESIS)
    sealed = []
    for row in rows:
        n += 1
        previous = chain(previous, n, row)
        sealed.append({"id": row["id"], "n": n, "hash": previous})
    tx.executemany("UPDATE events SET n = :n, hash = :hash WHERE id = :id", sealed)
    return len(sealed)


def chain(previous: str, n: int, row: Row) -> str:
    """Return the hash of event `n`: SHA-256 over the previous hash and the row's canonical JSON."""
    fields = {
        key: row[key]
        for key in ("at", "kind", "actor", "device_id", "release_id", "role", "reason", "body", "request_id")
    }
    return hashlib.sha256(previous.encode() + _encoder.encode({"n": n, **fields})).hexdigest()


def after(tx: Tx, n: int, *, limit: int) -> list[Row]:
    """Return sealed events numbered above `n`, oldest first."""
    return tx.all(
        "SELECT * FROM events WHERE n > :n ORDER BY n LIMIT :limit",
        {"n": n, "limit": limit},
    )


def newest(tx: Tx, count: int) -> list[Row]:
    """Return the last `count` sealed events, oldest first."""
    rows = tx.all("SELECT * FROM events WHERE n IS NOT NULL ORDER BY n DESC LIMIT :count", {"count": count})
    return rows[::-1]


def shown(row: Row) -> dict[str, Any]:
    """Return a sealed event as clients read it."""
    return {
        "n": row["n"],
        "at": rfc3339(row["at"]),
        "kind": row["kind"],
        "actor": row["actor"],
        "device_id": row["device_id"],
        "release_id": row["release_id"],
        "role": row["role"],
        "reason": row["reason"],
        "body": msgspec.Raw(row["body"].encode()),
    }


def ids(row: Row) -> dict[str, Any]:
    """Return what a log line names of a sealed event: its number and what it has of the rest."""
    found = {
        "event_n": row["n"],
        "actor": row["actor"],
        "request": row["request_id"],
        "device": row["device_id"],
        "release": row["release_id"],
    }
    return {key: value for key, value in found.items() if value}
