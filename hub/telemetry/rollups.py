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

HEALTHS: Final[tuple[Health, ...]] = ("ok", "degraded", "failing")
"""From best to worst."""
RANKS: Final = {health: rank for rank, health in enumerate(HEALTHS)}


class Bucket(msgspec.Struct, array_like=True, gc=False):
    """Heartbeats of one stretch of time. `start` is in s; shares are 0 to 1, degrees Celsius.

    `health` is the rank of the worst. `probed` and `warm` count the heartbeats that had probes, and a
    temperature among them.
    """

    start: int = 0
    count: int = 0
    health: int = 0
    probed: int = 0
    warm: int = 0
    cpu_sum: float = 0.0
    cpu_max: float = 0.0
    memory_sum: float = 0.0
    memory_max: float = 0.0
    disk_sum: float = 0.0
    disk_max: float = 0.0
    degree_sum: float = 0.0
    degree_max: float = 0.0

    def add(self, beat: Status) -> None:
        """Count one heartbeat."""
        self.count += 1
        if beat.health != "ok":
            self.health = max(self.health, RANKS[beat.health])
        probes = beat.probes
        if probes is None:
            return
        self.probed += 1
        reading = probes.cpu_load
        self.cpu_sum += reading
        if reading > self.cpu_max:
            self.cpu_max = reading
        reading = probes.memory_used
        self.memory_sum += reading
        if reading > self.memory_max:
            self.memory_max = reading
        reading = probes.disk_used
        self.disk_sum += reading
        if reading > self.disk_max:
            self.disk_max = reading
        degrees = probes.temperature
        if degrees is not None:
            # The highest of none is not 0: it may be below zero outside.
            if degrees > self.degree_max or not self.warm:
                self.degree_max = degrees
            self.degree_sum += degrees
            self.warm += 1

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
            self.degree_max = max(self.degree_max, other.degree_max) if self.warm else other.degree_max
            self.degree_sum += other.degree_sum
            self.warm += other.warm


class Open(msgspec.Struct, array_like=True, gc=False):
    """What a device's latest row keeps beside the heartbeat: gaps in its numbers, the open 5 minutes and hour.

    The hour stays packed; it is wanted only when 5 minutes are passed on to it.
    """

    gaps: list[int]
    five: Bucket
    hour: msgspec.Raw


class Passed(NamedTuple):
    """Buckets of one device that are to be added to the tiers."""

    fives: list[Bucket]
    hours: list[Bucket]


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Open)
_bucket: Final = msgspec.msgpack.Decoder(Bucket)
_EMPTY: Final = _encoder.encode(Open([], Bucket(), msgspec.Raw(_encoder.encode(Bucket()))))


def pack(state: Open) -> bytes:
    """Return `state` as the latest row keeps it."""
    return _encoder.encode(state)


def unpack(data: bytes | None) -> Open:
    """Return what `pack` made; an empty state for None."""
    return _decoder.decode(data or _EMPTY)


def open_hour(state: Open) -> Bucket:
    """Return the open hour."""
    return _bucket.decode(state.hour)


def start_of(beat: Status, now_s: int) -> int:
    """Return the start (s) of the 5 minutes to which a heartbeat belongs that arrived at `now_s`."""
    at = beat.at
    if not (now_s - BEHIND_S <= at <= now_s + AHEAD_S and beat.clock_ok):
        at = now_s
    return at - at % FIVE_S


def count(
    state: Open, latest: tuple[int, int] | None, beats: Iterable[Status], now_s: int
) -> tuple[bool, Passed]:
    """Count those of `beats` that have not been, into `state`; return whether there were any, and what is passed on.

    `latest` is (boot counter, seq) of the device's latest row, which is the highest that was counted.
    """
    boot, top = latest or (-1, 0)
    gaps = state.gaps
    changed = False
    passed = Passed([], [])
    for beat in beats:
        seq, its_boot = beat.seq, beat.boot[0]
        if its_boot > boot:
            boot, top = its_boot, 0
            gaps.clear()
            skip(gaps, top, seq)
            top = seq
        elif its_boot < boot:
            continue
        elif seq > top:
            skip(gaps, top, seq)
            top = seq
        elif not fill(gaps, seq):
            continue
        changed = True
        take(state, beat, now_s, passed)
    return changed, passed


def is_run(state: Open, latest: tuple[int, int] | None, boot: int, first: int) -> bool:
    """Whether consecutive heartbeats from (boot, first) on are all new; what they skipped is noted in `state`."""
    if latest is None or boot > latest[0]:
        state.gaps.clear()
        skip(state.gaps, 0, first)
    elif boot == latest[0] and first > latest[1]:
        skip(state.gaps, latest[1], first)
    else:
        return False
    return True


def take(state: Open, beat: Status, now_s: int, passed: Passed) -> None:
    """Add one heartbeat that has not been counted."""
    start = start_of(beat, now_s)
    five = state.five
    if start == five.start:
        five.add(beat)
        return
    five = Bucket(start)
    five.add(beat)
    take_sum(state, five, passed)


def take_sum(state: Open, five: Bucket, passed: Passed) -> None:
    """Add heartbeats that have not been counted and are added up in `five`, which stays as it is."""
    open_five = state.five
    if five.start > open_five.start:
        if open_five.count:
            _pass_on(state, open_five, passed)
        open_five = state.five = Bucket(five.start)
    if five.start == open_five.start:
        open_five.merge(five)
    else:
        _pass_on(state, five, passed)


def _pass_on(state: Open, five: Bucket, passed: Passed) -> None:
    passed.fives.append(five)
    start = five.start - five.start % HOUR_S
    hour = open_hour(state)
    if start < hour.start:
        hour = Bucket(start)
        hour.merge(five)
        passed.hours.append(hour)
        return
    if start > hour.start:
        if hour.count:
            passed.hours.append(hour)
        hour = Bucket(start)
    hour.merge(five)
    state.hour = msgspec.Raw(_encoder.encode(hour))
