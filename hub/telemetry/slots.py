"""Hours of a day, packed into one row: 22 bytes an hour, where a row an hour would take 100. Pure.

A slot keeps what people look at: count, worst health, and mean and maximum of each probe. Adding to an hour that
is there already (a heartbeat that came late) weighs the means by the counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple

from hub.telemetry.buckets import Bucket
from hub.telemetry.rollups import HOUR_S

_SLOT: Final = Struct("<BBI8h")
SLOT_BYTES: Final = _SLOT.size
_NONE: Final = -32_768
_SHARE: Final = 1_000
_DEGREE: Final = 100
"""Shares are kept in thousandths, up to 32; degrees in hundredths, up to ±327."""
_SCALES: Final = (_SHARE,) * 6 + (_DEGREE,) * 2
WHOLE_DAY: Final = 24
"""`hour` of a slot that covers its whole day."""


class Slot(NamedTuple):
    """One hour (0 to 23) or day; None where nothing was read. `health` is the rank of the worst."""

    hour: int
    health: int
    heartbeats: int
    cpu_mean: float | None
    cpu_max: float | None
    memory_mean: float | None
    memory_max: float | None
    disk_mean: float | None
    disk_max: float | None
    degree_mean: float | None
    degree_max: float | None


def slot_of(bucket: Bucket) -> Slot:
    """Return the slot of an hour's bucket."""
    b, probed, warm = bucket, bucket.probed, bucket.warm
    return Slot(
        b.start // HOUR_S % 24,
        b.health,
        b.count,
        *((b.cpu_sum / probed, b.cpu_max) if probed else (None, None)),
        *((b.memory_sum / probed, b.memory_max) if probed else (None, None)),
        *((b.disk_sum / probed, b.disk_max) if probed else (None, None)),
        *((b.degree_sum / warm, b.degree_max) if warm else (None, None)),
    )


def unpack(data: bytes) -> list[Slot]:
    """Return the slots of a packed row."""
    return [
        Slot(
            *values[:3],
            *[None if n == _NONE else n / scale for n, scale in zip(values[3:], _SCALES, strict=True)],
        )
        for values in _SLOT.iter_unpack(data)
    ]


def pack(slots: Iterable[Slot]) -> bytes:
    """Return what `unpack` reads; what is beyond the scales is kept as their ends."""
    return b"".join(
        _SLOT.pack(
            slot.hour,
            slot.health,
            min(slot.heartbeats, 2**32 - 1),
            *[
                _NONE if value is None else round(min(max(value * scale, -32_767), 32_767))
                for value, scale in zip(slot[3:], _SCALES, strict=True)
            ],
        )
        for slot in slots
    )


def added(slots: Iterable[Slot], new: Iterable[Slot]) -> list[Slot]:
    """Return `slots` with `new` added to the hours they belong to, in order of hours."""
    by_hour = {slot.hour: slot for slot in slots}
    for slot in new:
        by_hour[slot.hour] = merged(by_hour[slot.hour], slot) if slot.hour in by_hour else slot
    return [by_hour[hour] for hour in sorted(by_hour)]


def merged(first: Slot, second: Slot) -> Slot:
    """Return one slot that covers both; `hour` is the first's."""
    values: list[float | None] = []
    for i in range(3, len(first), 2):
        mean, highest = first[i], first[i + 1]
        other_mean, other_highest = second[i], second[i + 1]
        if mean is None or highest is None:
            values += (other_mean, other_highest)
        elif other_mean is None or other_highest is None:
            values += (mean, highest)
        else:
            total = mean * first.heartbeats + other_mean * second.heartbeats
            values += (total / (first.heartbeats + second.heartbeats), max(highest, other_highest))
    return Slot(first.hour, max(first.health, second.health), first.heartbeats + second.heartbeats, *values)


def whole_day(slots: Iterable[Slot]) -> Slot | None:
    """Return one slot for all of `slots`, None when there are none."""
    day: Slot | None = None
    for slot in slots:
        day = slot._replace(hour=WHOLE_DAY) if day is None else merged(day, slot)
    return day
