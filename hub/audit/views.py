"""The event log as people and programs read it. Reading only."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import msgspec

from hub import events
from hub.audit.chain import Begin, Entry, Seal
from hub.errors import Invalid
from hub.signer import Signer
from hub.store import Row, Store, Tx
from topics.documents import Checkpoint

PAGE: Final = 1_000


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which events: those that match whatever is given. Times in ms, `since` included and `until` not."""

    device_id: str | None = None
    release_id: str | None = None
    role: str | None = None
    actor: str | None = None
    kind: str | None = None
    request_id: str | None = None
    since: int | None = None
    until: int | None = None


def audits(tx: Tx, wanted: Wanted, *, before: int | None, limit: int) -> list[dict[str, Any]]:
    """Return sealed events numbered below `before`, the newest first."""
    conditions, params = ["n IS NOT NULL"], {"limit": limit}
    given: dict[str, Any] = {"before": before, **msgspec.structs.asdict(wanted)}
    for name, value in given.items():
        if value is not None:
            conditions.append(_CONDITIONS[name])
            params[name] = value
    where = " AND ".join(conditions)
    rows = tx.all(f"SELECT * FROM events WHERE {where} ORDER BY n DESC LIMIT :limit", params)  # noqa: S608  (ours)
    return [view(row) for row in rows]


_CONDITIONS: Final = {
    "before": "n < :before",
    "device_id": "device_id = :device_id",
    "release_id": "release_id = :release_id",
    "role": "role = :role",
    "actor": "actor = :actor",
    "kind": "kind = :kind",
    "request_id": "request_id = :request_id",
    "since": "at >= :since",
    "until": "at < :until",
}


def view(row: Row) -> dict[str, Any]:
    """Return one event as the audit shows it: also by which request, and its place in the chain."""
    return {**events.shown(row), "request_id": row["request_id"], "hash": row["hash"]}


def export(store: Store, signer: Signer, after: int, now: int) -> Iterator[bytes]:
    """Yield the lines of an export of every event above `after` that is sealed now, with its checkpoints. `now` in ms.

    A page at a time, each read on its own, so that a long export holds no snapshot of the database. Raises `Invalid`
    where there is no event `after`.
    """
    encode = msgspec.json.Encoder().encode
    with store.read() as tx:
        row = tx.one("SELECT hash FROM events WHERE n = :n", {"n": after})
        newest = tx.one("SELECT n, hash FROM events WHERE n IS NOT NULL ORDER BY n DESC LIMIT 1")
        end = newest["n"] if newest else 0
        # Of events that the database no longer has: who deleted them did not forge these.
        beyond = tx.all("SELECT envelope FROM checkpoints WHERE n > :end ORDER BY n", {"end": end})
    if row is None and after:
        raise Invalid(f"There is no event {after}; the newest is {end}.", rule="after")
    last = Checkpoint(fleet=signer.fleet, n=end, hash=newest["hash"], at=now) if newest else None
    begin = Begin(
        *(signer.fleet, after, row["hash"] if row else events.GENESIS),
        end=signer.sign(last, "checkpoint") if last else None,
    )
    seals = [encode(Seal(mark["envelope"])) + b"\n" for mark in beyond]
    return chain([encode(begin) + b"\n"], _rest(store, after, end), seals)


def _rest(store: Store, after: int, end: int) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    n = after
    while n < end:
        with store.read() as tx:
            rows = [row for row in events.after(tx, n, limit=PAGE) if row["n"] <= end]
            last = rows[-1]["n"] if rows else end
            marks = tx.all(
                "SELECT n, envelope FROM checkpoints WHERE n > :n AND n <= :last", {"n": n, "last": last}
            )
        seals = {mark["n"]: encode(Seal(mark["envelope"])) + b"\n" for mark in marks}
        for row in rows:
            yield encode(_entry(row)) + b"\n" + seals.get(row["n"], b"")
        n = last


def _entry(row: Row) -> Entry:
    fields = {name: row[name] for name in Entry.__struct_fields__ if name != "body"}
    return Entry(**fields, body=msgspec.json.decode(row["body"]))
