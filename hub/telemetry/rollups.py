"""Rollups of heartbeats: count, worst health, and mean and maximum of the probes that matter. Pure.

    heartbeat → open 5 minutes → open hour → that hour of the day's row

The open 5 minutes and the open hour of a device stay in its latest row, which is written anyway. A bucket is
passed on when a heartbeat of a later one comes, by adding, in the transaction that counted it; so nothing is
counted twice and no job has to close anything. A heartbeat that comes late, for a bucket that was passed on, is
added where that went.

A heartbeat belongs to the time at which the device says it was made, so that what waited in the broker while
the hub was away lands where it happened. When the device does not trust its clock, or the clock is more than
`AHEAD_S` ahead of the hub's or `BEHIND_S` behind it, the time of arrival counts instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from hub.telemetry.seen import fill, skip
from topics.messages import Health, Status

FIVE_S: Final = 300
HOUR_S: Final = 3_600
DAY_S: Final = 86_400
AHEAD_S: Final = 300
BEHIND_S: Final = 14 * DAY_S
"""As long as the broker keeps a session: nothing waits longer."""

SHARE_SCALE: Final = 1_000
"""Shares are kept in thousandths."""
DEGREE_SCALE: Final = 100
"""Temperatures are kept in hundredths of a degree Celsius."""
SHARE_MAX: Final = 32.0
DEGREE_MAX: Final = 320.0
"""Readings beyond these are counted as these, so that no sum can overflow."""

HEALTHS: Final[tuple[Health, ...]] = ("ok", "degraded", "failing")
"""From best to worst."""
_RANKS: Final = {health: rank for rank, health in enumerate(HEALTHS)}


class Bucket(msgspec.Struct, array_like=True, gc=False):
    """Heartbeats of one stretch of time. `start` is in s; shares and degrees are scaled integers.

    `health` is the rank of the worst. `probed` and `warm` count the heartbeats that had probes, and a
    temperature among them.
    """

    start: int = 0
    count: int = 0
    health: int = 0
    probed: int = 0
    warm: int = 0
    cpu_sum: int = 0
    cpu_max: int = 0
    memory_sum: int = 0
    memory_max: int = 0
    disk_sum: int = 0
    disk_max: int = 0
    degree_sum: int = 0
    degree_max: int = 0

    def add(self, beat: Status) -> None:
        """Count one heartbeat."""
        self.count += 1
        if beat.health != "ok":
            self.health = max(self.health, _RANKS[beat.health])
        probes = beat.probes
        if probes is None:
            return
        cpu, memory, disk = probes.cpu_load, probes.memory_used, probes.disk_used
        if not (0 <= cpu <= SHARE_MAX and 0 <= memory <= SHARE_MAX and 0 <= disk <= SHARE_MAX):
            cpu, memory, disk = _share(cpu), _share(memory), _share(disk)
        self.probed += 1
        scaled = int(cpu * SHARE_SCALE + 0.5)
        self.cpu_sum += scaled
        if scaled > self.cpu_max:
            self.cpu_max = scaled
        scaled = int(memory * SHARE_SCALE + 0.5)
        self.memory_sum += scaled
        if scaled > self.memory_max:
            self.memory_max = scaled
        scaled = int(disk * SHARE_SCALE + 0.5)
        self.disk_sum += scaled
        if scaled > self.disk_max:
            self.disk_max = scaled
        if probes.temperature is not None:
            self._warm(1, *[round(min(max(probes.temperature, -DEGREE_MAX), DEGREE_MAX) * DEGREE_SCALE)] * 2)

    def merge(self, other: Bucket) -> None:
        """Count what `other` counted."""
        self.count += other.count
        self.health = max(self.health, other.health)
        self.probed += other.probed
        self.cpu_sum += other.cpu_sum
        self.cpu_max = max(self.cpu_max, other.cpu_max)
        self.memory_sum += other.memory_sum
        self.memory_max = max(self.memory_max, other.memory_max)
        self.disk_sum += other.disk_sum
        self.disk_max = max(self.disk_max, other.disk_max)
        if other.warm:
            self._warm(other.warm, other.degree_sum, other.degree_max)

    def _warm(self, count: int, total: int, highest: int) -> None:
        # The highest of none is not 0: it may be below zero outside.
        self.degree_max = max(self.degree_max, highest) if self.warm else highest
        self.degree_sum += total
        self.warm += count


class Open(msgspec.Struct, array_like=True, gc=False):
    """What a device's latest row keeps beside the heartbeat: gaps in its numbers, the open 5 minutes and hour."""

    gaps: list[int]
    five: Bucket
    hour: Bucket


class Passed(NamedTuple):
    """Buckets of one device that are to be added to the tiers."""

    fives: list[Bucket]
    hours: list[Bucket]


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Open)


def pack(state: Open) -> bytes:
    """Return `state` as the latest row keeps it."""
    return _encoder.encode(state)


def unpack(data: bytes | None) -> Open:
    """Return what `pack` made; an empty state for None."""
    return _decoder.decode(data) if data else Open([], Bucket(), Bucket())


def count(
    state: Open, newest: tuple[int, int] | None, beats: Iterable[Status], now_s: int
) -> tuple[bool, Passed]:
    """Count those of `beats` that have not been, into `state`; return whether there were any, and what is passed on.

    `newest` is (boot counter, seq) of the device's latest row, which is the highest that was counted.
    """
    boot, top = newest or (-1, 0)
    gaps, five = state.gaps, state.five
    changed = False
    passed = Passed([], [])
    earliest, latest = now_s - BEHIND_S, now_s + AHEAD_S
    for beat in beats:
        seq = beat.seq
        its_boot = beat.boot[0]
        if its_boot == boot:
            if seq == top + 1:
                top = seq
            elif seq > top:
                skip(gaps, top, seq)
                top = seq
            elif not fill(gaps, seq):
                continue
        elif its_boot > boot:
            boot, top = its_boot, seq
            gaps.clear()
            skip(gaps, 0, seq)
        else:
            continue
        changed = True
        at = beat.at
        if not (earliest <= at <= latest and beat.clock_ok):
            at = now_s
        start = at - at % FIVE_S
        if start != five.start:
            if start > five.start:
                if five.count:
                    _pass_on(state, five, passed)
                five = state.five = Bucket(start)
            else:
                late = Bucket(start)
                late.add(beat)
                _pass_on(state, late, passed)
                continue
        five.add(beat)
    return changed, passed


def _pass_on(state: Open, five: Bucket, passed: Passed) -> None:
    passed.fives.append(five)
    start = five.start - five.start % HOUR_S
    hour = state.hour
    if start > hour.start:
        if hour.count:
            passed.hours.append(hour)
        state.hour = hour = Bucket(start)
    if start == hour.start:
        hour.merge(five)
    else:
        late = Bucket(start)
        late.merge(five)
        passed.hours.append(late)


def _share(value: float) -> float:
    return min(max(value, 0.0), SHARE_MAX)
