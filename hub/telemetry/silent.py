"""Closing the open buckets of devices that fell silent.

Ingest passes a bucket on when a heartbeat of a later one comes. Of a device that stops sending none ever comes, so
its last 5 minutes and its last hour would stay out of the tiers for good. After `SILENT_S` without a heartbeat both
are passed on from here, by adding, as ingest does it. What stays in the latest row are empty buckets of the same
start: a heartbeat of that time that comes late is counted in them and added to the tiers in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hub.store import Store, Tx
from hub.telemetry import buckets, rollups, tiers
from hub.telemetry.buckets import BUCKET_BYTES, Bucket
from hub.telemetry.rollups import Open

SILENT_S: Final = 2 * 3_600
"""By then the hour is over to which the last heartbeat belongs, however far ahead its clock may be."""
CHUNK: Final = 200


def close(store: Store, now: int) -> Iterator[int]:
    """Pass on what silent devices left open at `now` (ms); yields after each transaction how many devices that were."""
    after = -1
    while True:
        with store.read() as tx:
            # Without the write lock: where few are silent, this goes through all devices before it finds a chunk.
            found = tx.tuples(_OPEN, {**_limits(now), "after": after, "limit": CHUNK})
        if not found:
            return
        after = found[-1][0]
        with store.write() as tx:
            closed = _close(tx, [key for (key,) in found], now)
        yield closed


def _close(tx: Tx, keys: list[int], now: int) -> int:
    fives: list[tuple[int, Bucket]] = []
    hours: list[tuple[int, Bucket]] = []
    rows: list[tuple[bytes, int]] = []
    for key in keys:
        row = tx.one(_OPEN_ONE, {**_limits(now), "key": key})
        if row is None:  # heard again meanwhile
            continue
        state = rollups.unpack(row["rollup"])
        passed = emptied(state)
        fives += [(key, bucket) for bucket in passed.fives]
        hours += [(key, bucket) for bucket in passed.hours]
        rows.append((rollups.pack(state), key))
    tiers.add_fives(tx, fives, now // 1000)
    tiers.add_hours(tx, hours)
    tx.executemany("UPDATE device_latest SET rollup = ? WHERE device_key = ?", rows)
    return len(rows)


def emptied(state: Open) -> rollups.Passed:
    """Empty both open buckets of `state`; return what is to be added to the tiers. Pure."""
    passed = rollups.Passed([], [])
    five = state.five
    if five.count:
        rollups.pass_on(state, five, passed)
        state.five = Bucket(five.start)
    hour = buckets.unpack(state.hour)
    if hour.count:
        passed.hours.append(hour)
        state.hour = buckets.pack(Bucket(hour.start))
    return passed


def _limits(now: int) -> dict[str, object]:
    return {"before": now - SILENT_S * 1000, "none": bytes(4)}


# The count of a packed bucket is its second field, so that a row with nothing open is passed over without unpacking.
_CONDITION: Final = f"""received_at < :before AND rollup IS NOT NULL
    AND (SUBSTR(rollup, 5, 4) <> :none OR SUBSTR(rollup, {BUCKET_BYTES + 5}, 4) <> :none)"""
_OPEN: Final = f"""
SELECT device_key FROM device_latest WHERE device_key > :after AND {_CONDITION} ORDER BY device_key LIMIT :limit
"""  # noqa: S608  (our own constants)
_OPEN_ONE: Final = f"SELECT rollup FROM device_latest WHERE device_key = :key AND {_CONDITION}"  # noqa: S608
