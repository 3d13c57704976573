"""Rollups in the store: added to by ingest, read by people, thinned by age.

| tier | kept | table |
| --- | --- | --- |
| 5 minutes | 48 h | `rollups_5m`, one row each |
| 1 hour | 90 days, settable | `rollups_1h`, a packed row a day |
| 1 day | 2 years, settable | `rollups_1d`; while the hours are kept, the day is their sum |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import astuple

from hub.store import Row, Tx
from hub.telemetry import slots
from hub.telemetry.buckets import Bucket
from hub.telemetry.rollups import DAY_S, HOUR_S
from hub.telemetry.slots import Slot

KEEP_5M_S: Final = 48 * HOUR_S
KEEP_1H_DAYS: Final = 90
KEEP_1D_DAYS: Final = 730
_CHUNK: Final = 1_000
_STARTS: Final = 200

_FIELDS: Final = Bucket.__struct_fields__[1:]


def _sum_or_highest(name: str) -> str:
    old, new = f"rollups_5m.{name}", f"excluded.{name}"
    if name == "degree_max":  # below zero outside, so no reading at all is not 0
        keep = f"excluded.warm = 0 OR (rollups_5m.warm > 0 AND {old} > {new})"
    elif name == "health" or name.endswith("_max"):
        keep = f"{old} > {new}"
    else:
        return f"{name} = {old} + {new}"
    return f"{name} = CASE WHEN {keep} THEN {old} ELSE {new} END"


_ADD_FIVE: Final = (
    f"INSERT INTO rollups_5m (start, device_key, {', '.join(_FIELDS)}) "  # noqa: S608  (our own constants)
    f"VALUES ({', '.join('?' * (2 + len(_FIELDS)))}) ON CONFLICT (start, device_key) DO UPDATE SET "
    + ", ".join(map(_sum_or_highest, _FIELDS))
)


def add_fives(tx: Tx, buckets: Iterable[tuple[int, Bucket]], now_s: int) -> None:
    """Add passed-on buckets, each with its device's key. Older ones than the tier keeps are left out of it."""
    oldest = now_s - KEEP_5M_S
    rows = [(bucket.start, key, *astuple(bucket)[1:]) for key, bucket in buckets if bucket.start >= oldest]
    rows.sort()
    tx.executemany(_ADD_FIVE, rows)


def bucket_of(row: Row) -> Bucket:
    """Return a row of `rollups_5m` as the bucket that it was."""
    return Bucket(row["start"], *[row[name] for name in _FIELDS])


def add_hours(tx: Tx, buckets: Iterable[tuple[int, Bucket]]) -> None:
    """Add passed-on hours, each with its device's key."""
    by_day: dict[tuple[int, int], list[Slot]] = {}
    for key, bucket in buckets:
        by_day.setdefault((bucket.start // DAY_S, key), []).append(slots.slot_of(bucket))
    rows = []
    for (day, key), new in sorted(by_day.items()):
        row = tx.one("SELECT hours FROM rollups_1h WHERE day = ? AND device_key = ?", (day, key))
        known = slots.unpack(row["hours"]) if row else []
        rows.append((day, key, slots.pack(slots.added(known, new))))
    tx.executemany(
        "INSERT INTO rollups_1h (day, device_key, hours) VALUES (?, ?, ?) "
        "ON CONFLICT (day, device_key) DO UPDATE SET hours = excluded.hours",
        rows,
    )
