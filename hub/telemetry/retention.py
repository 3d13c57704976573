"""What is deleted or folded by age, a bounded piece at a time.

| what | kept | then |
| --- | --- | --- |
| 5-minute rows | 48 h | deleted |
| hours | `Keep.hourly` | folded into one slot a day |
| days | `Keep.daily` | deleted |
| durable reports | `Keep.reports` | deleted, once receipted |
| presence log | `PRESENCE_DAYS`, `presencelog.MOST` a device | deleted, but for each device's newest entry |
| quarantine | `QUARANTINE_DAYS` | deleted; the counts stay |

The event log is the audit and is kept whole. A report is deleted only when the device has its receipt and may have
forgotten it; `spools.pruned` remembers up to which number reports were taken in, so that a copy of a deleted one, from
a broker or a disk that was put back, is still no new report. What the hub never receipted is kept, since the device
will send it again. Reports of deleted devices go by age alone.

Every function is an iterator that does one transaction for each `next` and holds no lock in between, so that whoever
runs it decides how long ingest may have the store to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from hub.store import Row, Store, Tx
from hub.telemetry import silent, slots
from hub.telemetry.rollups import DAY_S
from hub.telemetry.tiers import KEEP_1D_DAYS, KEEP_1H_DAYS, KEEP_5M_S

KEEP_REPORTS_DAYS: Final = 365
QUARANTINE_DAYS: Final = 30
PRESENCE_DAYS: Final = 30
LEAST_DAYS: Final = 15
"""Whatever else is wished: the broker hands over heartbeats and reports that are up to 14 days old."""
CHUNK: Final = 1_000
"""Rows a transaction; a thousand take about 5 ms."""
_DAY_MS: Final = DAY_S * 1000


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """How long things are kept, in days; at least `LEAST_DAYS` each."""

    hourly: int = KEEP_1H_DAYS
    daily: int = KEEP_1D_DAYS
    reports: int = KEEP_REPORTS_DAYS


Step = Callable[[Store, Keep, int], Iterator[int]]


def close_silent(store: Store, _keep: Keep, now: int) -> Iterator[int]:
    """See `hub.telemetry.silent`."""
    return silent.close(store, now)


def drop_fives(store: Store, _keep: Keep, now: int) -> Iterator[int]:
    """Delete 5-minute rows, oldest first."""
    before = now // 1000 - KEEP_5M_S
    return _chunks(store, lambda tx: _drop(tx, "rollups_5m", "start", before))


def fold_hours(store: Store, keep: Keep, now: int) -> Iterator[int]:
    """Fold packed hours of a day into the day's slot, oldest first."""
    before = now // _DAY_MS - keep.hourly
    return _chunks(store, lambda tx: _fold(tx, before))


def drop_days(store: Store, keep: Keep, now: int) -> Iterator[int]:
    """Delete day slots, oldest first."""
    before = now // _DAY_MS - keep.daily
    return _chunks(store, lambda tx: _drop(tx, "rollups_1d", "day", before))


def drop_quarantine(store: Store, _keep: Keep, now: int) -> Iterator[int]:
    """Delete what people have had time to look at."""
    params = {"before": now - QUARANTINE_DAYS * _DAY_MS, "limit": CHUNK}
    return _chunks(store, lambda tx: tx.execute(_DROP_QUARANTINE, params))


def drop_reports(store: Store, keep: Keep, now: int) -> Iterator[int]:
    """Delete receipted reports by age, device by device."""
    params: dict[str, Any] = {"before": now - keep.reports * _DAY_MS, "limit": CHUNK}
    params |= {"key": -1, "spool": "", "n": 0}
    while True:
        with store.read() as tx:
            # Without the write lock: it may have to pass over many that stay.
            rows = tx.all(_OLD_REPORTS, params)
        if not rows:
            return
        last = rows[-1]
        params |= {"key": last["device_key"], "spool": last["spool"], "n": last["n"]}
        with store.write() as tx:
            _drop_reports(tx, rows)
        yield len(rows)


def drop_presences(store: Store, _keep: Keep, now: int) -> Iterator[int]:
    """Delete presence entries by age; a device's newest says how it stands, so it stays as long as the device."""
    params = {"before": now - PRESENCE_DAYS * _DAY_MS, "limit": CHUNK, "after": 0}
    while True:
        with store.read() as tx:
            # Without the write lock: it passes over every device that has long been as it is.
            rows = tx.tuples(_OLD_PRESENCES, params)
        if not rows:
            return
        params["after"] = rows[-1][0]
        with store.write() as tx:
            tx.executemany("DELETE FROM presence_log WHERE id = ?", rows)
        yield len(rows)


STEPS: Final[dict[str, Step]] = {
    "silent devices": close_silent,
    "5-minute rows": drop_fives,
    "hours": fold_hours,
    "days": drop_days,
    "reports": drop_reports,
    "presence log": drop_presences,
    "quarantine": drop_quarantine,
}
"""In the order in which they are run: what is closed now may be old already."""


def _chunks(store: Store, work: Callable[[Tx], int]) -> Iterator[int]:
    """Do `work` again and again until it finds nothing."""
    while True:
        with store.write() as tx:
            done = work(tx)
        if not done:
            return
        yield done


def _drop(tx: Tx, table: str, time: str, before: int) -> int:
    """Delete the first rows of a table whose key begins with a time."""
    oldest = f"SELECT {time}, device_key FROM {table} WHERE {time} < :before ORDER BY {time}, device_key LIMIT :limit"  # noqa: S608
    rows = tx.tuples(oldest, {"before": before, "limit": CHUNK})
    if rows:
        last = {"time": rows[-1][0], "key": rows[-1][1]}
        tx.execute(f"DELETE FROM {table} WHERE ({time}, device_key) <= (:time, :key)", last)  # noqa: S608
    return len(rows)


def _fold(tx: Tx, before: int) -> int:
    rows = tx.tuples(
        "SELECT day, device_key, hours FROM rollups_1h WHERE day < ? ORDER BY day, device_key LIMIT ?",
        (before, CHUNK),
    )
    folded = []
    for day, key, hours in rows:
        known = tx.one("SELECT slot FROM rollups_1d WHERE day = ? AND device_key = ?", (day, key))
        found = (slots.unpack(known["slot"]) if known else []) + slots.unpack(hours)
        slot = slots.whole_day(found)
        folded.append((day, key, slots.pack([slot] if slot else [])))
    tx.executemany(_PUT_DAY, folded)
    tx.executemany(
        "DELETE FROM rollups_1h WHERE day = ? AND device_key = ?", [(day, key) for day, key, _ in rows]
    )
    return len(rows)


def _drop_reports(tx: Tx, rows: list[Row]) -> None:
    pruned: dict[tuple[int, str], int] = {}
    for row in rows:
        pruned[row["device_key"], row["spool"]] = row["n"]  # in order of n
    tx.executemany(_PRUNED, [(n, key, spool, n) for (key, spool), n in pruned.items()])
    tx.executemany(
        "DELETE FROM reports WHERE device_key = ? AND spool = ? AND n = ?",
        [(row["device_key"], row["spool"], row["n"]) for row in rows],
    )


_PUT_DAY: Final = """
INSERT INTO rollups_1d (day, device_key, slot) VALUES (?, ?, ?)
ON CONFLICT (day, device_key) DO UPDATE SET slot = excluded.slot
"""
_DROP_QUARANTINE: Final = """
DELETE FROM quarantine WHERE id IN (SELECT id FROM quarantine WHERE received_at < :before ORDER BY id LIMIT :limit)
"""
_OLD_REPORTS: Final = """
SELECT reports.device_key, reports.spool, reports.n FROM reports
LEFT JOIN spools ON spools.device_key = reports.device_key AND spools.spool = reports.spool
LEFT JOIN devices ON devices.key = reports.device_key
WHERE (reports.device_key, reports.spool, reports.n) > (:key, :spool, :n) AND reports.received_at < :before
    AND (reports.n <= spools.contiguous OR devices.key IS NULL)
ORDER BY reports.device_key, reports.spool, reports.n LIMIT :limit
"""
_OLD_PRESENCES: Final = """
SELECT id FROM presence_log AS old WHERE id > :after AND last_at < :before AND (
    EXISTS (SELECT 1 FROM presence_log AS newer WHERE newer.device_key = old.device_key AND newer.id > old.id)
    OR NOT EXISTS (SELECT 1 FROM devices WHERE devices.key = old.device_key))
ORDER BY id LIMIT :limit
"""
_PRUNED: Final = "UPDATE spools SET pruned = ? WHERE device_key = ? AND spool = ? AND pruned < ?"
