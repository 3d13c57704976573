"""Where a device's timeline is read from: each source gives its newest entries behind a place.

A source asks the store for no more than a page needs, by an index, in the order of its places.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from hub.store import Row, Tx
from hub.telemetry import words
from hub.telemetry.asked import Span
from hub.telemetry.buckets import HEALTHS
from hub.telemetry.history import Entry, History
from hub.times import rfc3339
from topics.messages import DURABLE_TYPES


class Place(NamedTuple):
    """Where an entry stands, for good: of two, the larger is the newer. `at` is in ms."""

    at: int
    rank: int
    id: str


class Item(NamedTuple):
    """One entry; `text` is for people."""

    place: Place
    kind: str
    text: str
    detail: dict[str, Any]


class Window(NamedTuple):
    """What is wanted of a source: from `begin`, before `end` (ms), behind `id` where the time is `end - 1`."""

    begin: int
    end: int
    id: str | None
    limit: int

    @classmethod
    def behind(cls, after: Place | None, rank: int, span: Span, limit: int) -> Window:
        """Return what a source of `rank` has behind the place `after`, or of the whole span."""
        if after is None or after.at >= span.end:
            return cls(span.begin, span.end, None, limit)
        # Of the same time, the lower ranks come behind.
        end = after.at + (rank <= after.rank)
        return cls(span.begin, end, after.id if rank == after.rank else None, limit)


class Source(NamedTuple):
    """Some kinds of entries. `read` returns the newest `window.limit` of them, or all there are."""

    rank: int
    kinds: frozenset[str]
    read: Callable[[Tx, Row, Window, frozenset[str], int], list[Item]]


def checked(place: Place) -> Place:
    """Return a place that came from outside; raises `ValueError` when none of ours could be it."""
    if not 0 <= place.rank < len(_IDS) or not _IDS[place.rank].fullmatch(place.id):
        raise ValueError(place)
    return place


def _audit(tx: Tx, device: Row, window: Window, _kinds: frozenset[str], _now: int) -> list[Item]:
    params = {**_params(window), "device": device["device_id"]}
    return [
        Item(Place(row["at"], 0, f"{row['id']:016}"), "audit", words.audit(row), _event(row))
        for row in tx.all(_select(_AUDIT, window, "(at, id) < (:last_at, :number)"), params)
    ]


def _releases(tx: Tx, device: Row, window: Window, _kinds: frozenset[str], _now: int) -> list[Item]:
    params = {
        **_params(window._replace(begin=max(window.begin, device["created_at"]))),
        "role": device["role"],
        # The keys of a body are sorted and nothing is between them; a promotion elsewhere is no offer to this device.
        "segment": f'%"segment":"{device["segment"]}"%',
    }
    return [
        Item(Place(row["at"], 1, f"{row['id']:016}"), "release", words.release(row), _event(row))
        for row in tx.all(_select(_RELEASES, window, "(at, id) < (:last_at, :number)"), params)
    ]


def _reports(tx: Tx, device: Row, window: Window, kinds: frozenset[str], _now: int) -> list[Item]:
    spool, _, n = (window.id or "").partition("/")
    params: dict[str, Any] = {**_params(window), "key": device["key"], "spool": spool, "n": int(n or 0)}
    marks = {f"kind{number}": kind for number, kind in enumerate(sorted(kinds))}
    sql = _REPORTS.replace("$kinds", ", ".join(f":{name}" for name in marks))
    found = []
    for row in tx.all(
        _select(sql, window, "(received_at, spool, n) < (:last_at, :spool, :n)"), params | marks
    ):
        message = words.read_report(row["kind"], row["body"])
        detail = {} if message is None else msgspec.to_builtins(message)
        detail |= {"spool": row["spool"], "n": row["n"]}
        place = Place(row["received_at"], 2, f"{row['spool']}/{row['n']:016}")
        found.append(Item(place, row["kind"], words.report(message), detail))
    return found


def _presence(tx: Tx, device: Row, window: Window, _kinds: frozenset[str], _now: int) -> list[Item]:
    params = {**_params(window), "key": device["key"]}
    found = []
    for row in tx.all(_select(_PRESENCE, window, "(at, id) < (:last_at, :number)"), params):
        detail = {name: row[name] for name in ("state", "reason", "boot", "session", "times")}
        detail["last_at"] = rfc3339(row["last_at"])
        detail["next_wake"] = rfc3339(row["next_wake"] * 1000) if row["next_wake"] else None
        place = Place(row["at"], 3, f"{row['id']:016}")
        found.append(Item(place, "presence", words.presence(row), detail))
    return found


def _statuses(tx: Tx, device: Row, window: Window, _kinds: frozenset[str], now: int) -> list[Item]:
    found: list[Item] = []
    # Of one hour there is one entry, so what stands at the cursor itself has been shown.
    end = window.end if window.id is None else window.end - 1
    newer: Entry | None = None
    for entry in History(tx, device, now).entries("1h", 0, -(-end // 1000)):
        if newer is not None and newer.slot.health != entry.slot.health:
            found.append(_status(newer, entry))
        if len(found) >= window.limit or entry.start * 1000 < window.begin:
            return found
        newer = entry
    if newer is not None:
        found.append(_status(newer, None))
    return found


def _status(entry: Entry, before: Entry | None) -> Item:
    health = HEALTHS[entry.slot.health]
    was = None if before is None else HEALTHS[before.slot.health]
    detail = {"health": health, "was": was, "heartbeats": entry.slot.heartbeats, "open": entry.open}
    return Item(Place(entry.start * 1000, 4, ""), "status", words.status(health, was), detail)


def _params(window: Window) -> dict[str, Any]:
    number = int(window.id) if window.id is not None and window.id.isdigit() else 0
    return {
        "begin": window.begin,
        "end": window.end,
        "limit": window.limit,
        "last_at": window.end - 1,
        "number": number,
    }


def _select(sql: str, window: Window, behind: str) -> str:
    return sql.replace("$behind", "1 = 1" if window.id is None else behind)


def _event(row: Row) -> dict[str, Any]:
    return {
        "n": row["n"],
        "event": row["kind"],
        "actor": row["actor"],
        "reason": row["reason"],
        "release_id": row["release_id"],
        "body": msgspec.json.decode(row["body"]),
    }


SOURCES: Final = (
    Source(0, frozenset({"audit"}), _audit),
    Source(1, frozenset({"release"}), _releases),
    Source(2, frozenset(DURABLE_TYPES), _reports),
    Source(3, frozenset({"presence"}), _presence),
    Source(4, frozenset({"status"}), _statuses),
)
_NUMBER: Final = re.compile(r"\d{16,18}")
_IDS: Final = (_NUMBER, _NUMBER, re.compile(r"[0-9a-f]{8,32}/\d{16}"), _NUMBER, re.compile(""))
_AUDIT: Final = """
SELECT * FROM events WHERE device_id = :device AND at >= :begin AND at < :end AND $behind
    AND kind NOT IN ('device.offline', 'device.online')
ORDER BY at DESC, id DESC LIMIT :limit
"""
_RELEASES: Final = """
SELECT * FROM events WHERE role = :role AND device_id IS NULL AND at >= :begin AND at < :end AND $behind
    AND kind IN ('release.promoted', 'release.paused', 'release.resumed', 'release.halted', 'release.rolled_back',
        'release.completed', 'release.superseded')
    AND (kind <> 'release.promoted' OR body LIKE :segment)
ORDER BY at DESC, id DESC LIMIT :limit
"""
_REPORTS: Final = """
SELECT * FROM reports WHERE device_key = :key AND received_at >= :begin AND received_at < :end AND $behind
    AND kind IN ($kinds)
ORDER BY received_at DESC, spool DESC, n DESC LIMIT :limit
"""
_PRESENCE: Final = """
SELECT * FROM presence_log WHERE device_key = :key AND at >= :begin AND at < :end AND $behind
ORDER BY at DESC, id DESC LIMIT :limit
"""
