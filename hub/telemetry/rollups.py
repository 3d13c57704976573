"""Rollups of heartbeats: count, worst health, and mean and maximum of the probes that matter. Pure.

    heartbeat → open 5 minutes → open hour → that hour of the day's row

The open 5 minutes and the open hour of a device stay in its latest row, which is written anyway. A bucket is
passed on when a heartbeat of a later one comes, by adding, in the transaction that counted it; so nothing is
counted twice. (Of a device that sends no more, `hub.telemetry.silent` passes on the last ones.) A heartbeat that
comes late, for a bucket that was passed on, is added where that went.

A heartbeat belongs to the time at which the device says it was made, so that what waited in the broker while
the hub was away lands where it happened. When the device does not trust its clock, or the clock is more than
`AHEAD_S` ahead of the hub's or `BEHIND_S` behind it, the time of arrival counts instead.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from hub.telemetry import buckets
from hub.telemetry.buckets import BUCKET_BYTES, Bucket, add_packed
from hub.telemetry.seen import fill, skip
from topics.messages import Status

FIVE_S: Final = 300
HOUR_S: Final = 3_600
DAY_S: Final = 86_400
AHEAD_S: Final = 300
BEHIND_S: Final = 14 * DAY_S
"""As long as the broker keeps a session: nothing waits longer."""
_GAPS: Final = 2 * BUCKET_BYTES
_START: Final = struct.Struct("<I")
"""What a packed bucket begins with."""


class Open(msgspec.Struct, gc=False):
    """What a device's latest row keeps beside the heartbeat: the open 5 minutes and hour, gaps in its numbers.

    The hour stays packed; it is wanted only when 5 minutes are passed on to it.
    """

    five: Bucket
    hour: bytes
    gaps: list[int]


class Passed(NamedTuple):
    """Buckets of one device that are to be added to the tiers."""

    fives: list[Bucket]
    hours: list[Bucket]


def pack(state: Open) -> bytes:
    """Return `state` as the latest row keeps it."""
    gaps = state.gaps
    return buckets.pack(state.five) + state.hour + (struct.pack(f"<{len(gaps)}q", *gaps) if gaps else b"")


def unpack(data: bytes | None) -> Open:
    """Return what `pack` made; for None what a device begins with."""
    if not data:
        return Open(Bucket(), buckets.pack(Bucket()), [])
    five, hour, gaps = data[:BUCKET_BYTES], data[BUCKET_BYTES:_GAPS], data[_GAPS:]
    return Open(buckets.unpack(five), hour, [*struct.unpack(f"<{len(gaps) // 8}q", gaps)] if gaps else [])


def added(data: bytes, beat: Status, now_s: int) -> bytes | None:
    """Return a packed state with the next heartbeat, None when there is more to it than adding to the open bucket."""
    at = beat.at
    if not (now_s - BEHIND_S <= at <= now_s + AHEAD_S and beat.clock_ok):
        at = now_s
    five = add_packed(data, beat, at - at % FIVE_S)  # `start_of` without the call, a tenth of all this
    return None if five is None else five + data[BUCKET_BYTES:]


def turned(data: bytes, beat: Status, now_s: int) -> tuple[bytes, Bucket] | None:
    """Return a packed state with the next heartbeat when that begins new 5 minutes within the open hour, and the
    bucket that it closes; None when there is more to it.

    One heartbeat in five does so, and all the devices of a fleet at the same time.
    """
    start = start_of(beat, now_s)
    closed = buckets.unpack(data[:BUCKET_BYTES])
    (hour,) = _START.unpack_from(data, BUCKET_BYTES)
    if not (closed.count and hour <= closed.start < start and closed.start < hour + HOUR_S):
        return None
    five = buckets.begin_packed(beat, start)
    if five is None:
        return None
    return five + buckets.merge_packed(data, BUCKET_BYTES, closed) + data[_GAPS:], closed


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
            pass_on(state, open_five, passed)
        open_five = state.five = Bucket(five.start)
    if five.start == open_five.start:
        open_five.merge(five)
    else:
        pass_on(state, five, passed)


def pass_on(state: Open, five: Bucket, passed: Passed) -> None:
    """Add closed 5 minutes to their hour, and both to what is passed on."""
    passed.fives.append(five)
    start = five.start - five.start % HOUR_S
    hour = buckets.unpack(state.hour)
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
    state.hour = buckets.pack(hour)
