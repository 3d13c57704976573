"""A device's rollups, newest first: what the tiers hold, with what is still open in its latest row added.

Rows of all devices of one time lie together in the tiers, so that a retention deletes one stretch. One device's are
therefore read by naming each time: a few hundred look-ups a page.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from hub.store import Row, Tx
from hub.telemetry import buckets, rollups, slots
from hub.telemetry.rollups import BEHIND_S, DAY_S, FIVE_S, HOUR_S
from hub.telemetry.slots import Slot
from hub.telemetry.tiers import KEEP_5M_S, bucket_of

TIERS: Final = {"5m": FIVE_S, "1h": HOUR_S, "1d": DAY_S}
"""Names of the tiers, and how many seconds a bucket of each covers."""
_CHUNK: Final = 200
"""Rows that are named in one query."""


class Entry(NamedTuple):
    """One bucket: its start (s), what it holds, and whether more may still be added without being late."""

    start: int
    slot: Slot
    open: bool


class History:
    """The rollups of one device, as one transaction sees them. `now` is in ms."""

    def __init__(self, tx: Tx, device: Row, now: int) -> None:
        self._tx = tx
        self._key: int = device["key"]
        self._now = now // 1000
        self._first = device["created_at"] // 1000 - BEHIND_S
        row = tx.one("SELECT rollup FROM device_latest WHERE device_key = :key", {"key": self._key})
        state = rollups.unpack(row["rollup"] if row else None)
        hour = buckets.unpack(state.hour)
        self._five = state.five
        self._open = [bucket for bucket in (hour, state.five) if bucket.count]

    def entries(self, tier: str, begin: int, end: int) -> Iterator[Entry]:
        """Yield buckets that start at `begin` (s) or later and before `end`, newest first; none without a heartbeat."""
        if tier == "5m":
            begin = max(begin, self._now - KEEP_5M_S)
        begin = max(begin, self._first)
        end = min(end, self._now + rollups.AHEAD_S + 1)
        size, read, row_s = {
            "5m": (FIVE_S, self._fives, FIVE_S),
            "1h": (HOUR_S, self._hours, DAY_S),
            "1d": (DAY_S, self._days, DAY_S),
        }[tier]
        unfinished = self._open if tier != "5m" else [self._five] if self._five.count else []
        opened = {bucket.start - bucket.start % size for bucket in unfinished}
        for starts in _chunks(begin - begin % row_s, end, row_s):
            for start, slot in sorted(read(starts).items(), reverse=True):
                if begin <= start < end:
                    yield Entry(start, slot, start in opened)

    def _fives(self, starts: list[int]) -> dict[int, Slot]:
        found: dict[int, Slot] = {}
        for row in self._rows("rollups_5m", "start", starts):
            found[row["start"]] = slots.slot_of(bucket_of(row))
        five = self._five
        if five.count and five.start in starts:
            _add(found, five.start, slots.slot_of(five))
        return found

    def _hours(self, starts: list[int]) -> dict[int, Slot]:
        found: dict[int, Slot] = {}
        for row in self._rows("rollups_1h", "day", [start // DAY_S for start in starts]):
            for slot in slots.unpack(row["hours"]):
                found[row["day"] * DAY_S + slot.hour * HOUR_S] = slot
        self._add_open(found, starts, HOUR_S)
        return found

    def _days(self, starts: list[int]) -> dict[int, Slot]:
        found: dict[int, Slot] = {}
        days = [start // DAY_S for start in starts]
        for row in self._rows("rollups_1d", "day", days):
            for slot in slots.unpack(row["slot"]):
                found[row["day"] * DAY_S] = slot
        for row in self._rows("rollups_1h", "day", days):
            for slot in slots.unpack(row["hours"]):
                _add(found, row["day"] * DAY_S, slot)
        self._add_open(found, starts, DAY_S)
        return found

    def _add_open(self, found: dict[int, Slot], starts: list[int], size: int) -> None:
        for bucket in self._open:
            if bucket.start - bucket.start % DAY_S in starts:
                _add(found, bucket.start - bucket.start % size, slots.slot_of(bucket))

    def _rows(self, table: str, time: str, values: list[int]) -> list[Row]:
        marks = ", ".join("?" * len(values))
        return self._tx.all(
            f"SELECT * FROM {table} WHERE {time} IN ({marks}) AND device_key = ?",  # noqa: S608  (our own names)
            [*values, self._key],
        )


def _add(found: dict[int, Slot], start: int, slot: Slot) -> None:
    found[start] = slots.merged(found[start], slot) if start in found else slot


def _chunks(begin: int, end: int, step: int) -> Iterator[list[int]]:
    """Yield starts of rows from `begin` up to before `end`, the newest chunk first."""
    starts = range(begin, end, step)
    for last in range(len(starts), 0, -_CHUNK):
        yield list(starts[max(0, last - _CHUNK) : last])
