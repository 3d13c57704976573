"""Heartbeats on their way to the tiers: each in one bucket of its own time, whichever way they are added."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.telemetry import buckets, rollups
from hub.telemetry.buckets import Bucket
from hub.telemetry.rollups import FIVE_S, HOUR_S, Open, Passed
from tests.hub.telemetry.beats import FREELY, NOW, probes, statuses
from tests.support.uplinks import status
from topics.messages import Probes, Status

HOURS_BACK = NOW - NOW % HOUR_S - 4 * HOUR_S


def by_start(found: list[Bucket]) -> dict[int, Bucket]:
    """Add up buckets of the same start, as the tiers do."""
    sums: dict[int, Bucket] = {}
    for bucket in found:
        if bucket.count:
            sums.setdefault(bucket.start, Bucket(bucket.start)).merge(bucket)
    return sums


def counts(found: list[Bucket]) -> dict[int, int]:
    return {start: bucket.count for start, bucket in by_start(found).items()}


def everything(state: Open, passed: Passed) -> tuple[list[Bucket], list[Bucket]]:
    """5 minutes and hours, those that are open included."""
    hour = buckets.unpack(state.hour)
    late = Bucket(state.five.start - state.five.start % HOUR_S)
    late.merge(state.five)
    return [*passed.fives, state.five], [*passed.hours, hour, late]


@FREELY
@given(st.lists(statuses(st.integers(1, 40), st.integers(HOURS_BACK, NOW)), max_size=60))
def test_each_heartbeat_is_counted_once_in_its_5_minutes_and_in_its_hour(beats: list[Status]) -> None:
    state = rollups.unpack(None)
    changed, passed = rollups.count(state, None, beats, NOW)
    first = {beat.seq: beat for beat in reversed(beats)}.values()
    fives, hours = everything(state, passed)
    for size, found in ((FIVE_S, fives), (HOUR_S, hours)):
        expected: dict[int, Bucket] = {}
        for beat in first:
            start = beat.at - beat.at % size
            expected.setdefault(start, Bucket(start)).add(beat)
        assert by_start(found) == expected
    assert changed == bool(beats)


@FREELY
@given(st.lists(statuses(st.integers(1, 20), st.integers(HOURS_BACK, NOW)), max_size=30))
def test_what_comes_again_changes_nothing(beats: list[Status]) -> None:
    state = rollups.unpack(None)
    rollups.count(state, None, beats, NOW)
    before = rollups.pack(state)
    latest = (1, max((beat.seq for beat in beats), default=0))
    assert rollups.count(rollups.unpack(before), latest, beats, NOW) == (False, Passed([], []))


@FREELY
@given(
    st.lists(st.tuples(st.sampled_from((0, 30, 60, 60, 300, 900, 3_600, 90_000)), probes), max_size=25),
    st.lists(st.integers(0, 3), min_size=25, max_size=25),
)
def test_the_short_ways_of_a_large_fleet_end_where_the_long_one_does(
    steps: list[tuple[int, Probes]], gaps: list[int]
) -> None:
    """`added` and `turned` work on packed bytes; `take` is what they stand for."""
    state, passed, at = rollups.unpack(None), Passed([], []), HOURS_BACK - 20 * 90_000 // 4
    packed, fives, hours = rollups.pack(state), [], []
    state.gaps += [n * 2 for n in range(2 * (sum(gaps) % 3))]
    packed = rollups.pack(state)
    for step, readings in steps:
        at += step
        beat = status(at=at, probes=readings)
        rollups.take(state, beat, NOW, passed)
        if (quick := rollups.added(packed, beat, NOW)) is not None:
            packed = quick
        elif (turn := rollups.turned(packed, beat, NOW)) is not None:
            packed, closed = turn
            fives.append(closed)
        else:
            slow, more = rollups.unpack(packed), Passed([], [])
            rollups.take(slow, beat, NOW, more)
            packed = rollups.pack(slow)
            fives += more.fives
            hours += more.hours
    assert packed == rollups.pack(state)
    assert (fives, hours) == passed


def test_both_short_ways_are_taken_by_a_heartbeat_a_minute() -> None:
    state = rollups.unpack(None)
    rollups.take(state, status(at=HOURS_BACK, probes=Probes()), NOW, Passed([], []))
    packed, taken = rollups.pack(state), ""
    for minute in range(1, 15):
        beat = status(at=HOURS_BACK + 60 * minute, probes=Probes())
        quick, turn = rollups.added(packed, beat, NOW), rollups.turned(packed, beat, NOW)
        assert quick is None or turn is None
        taken += "a" if quick else "t" if turn else "-"
        slow = rollups.unpack(packed)
        rollups.take(slow, beat, NOW, Passed([], []))
        packed = quick or (turn[0] if turn else rollups.pack(slow))
    # The first turn opens the hour, which nothing was passed on to before.
    assert taken == "aaaa-aaaataaaa"


@FREELY
@given(st.lists(statuses(st.just(1), st.integers(HOURS_BACK, NOW)), max_size=20), st.integers(0, 20))
def test_a_sum_made_before_counts_as_its_heartbeats_do(beats: list[Status], cut: int) -> None:
    one_by_one, added_up = rollups.unpack(None), rollups.unpack(None)
    first, second = Passed([], []), Passed([], [])
    for beat in beats:
        rollups.take(one_by_one, beat, NOW, first)
    for beat in beats[:cut]:
        rollups.take(added_up, beat, NOW, second)
    sums: list[Bucket] = []
    for beat in beats[cut:]:
        start = rollups.start_of(beat, NOW)
        if not sums or sums[-1].start != start:
            sums.append(Bucket(start))
        sums[-1].add(beat)
    for five in sums:
        rollups.take_sum(added_up, five, second)
    for mine, theirs in zip(everything(one_by_one, first), everything(added_up, second), strict=True):
        assert counts(mine) == counts(theirs)


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        pytest.param({"at": NOW - 7_000}, NOW - 7_000, id="waited-in-the-broker"),
        pytest.param({"at": NOW - 7_000, "clock_ok": False}, NOW, id="does-not-trust-its-clock"),
        pytest.param({"at": NOW + rollups.AHEAD_S}, NOW + rollups.AHEAD_S, id="a-little-ahead"),
        pytest.param({"at": NOW + rollups.AHEAD_S + 1}, NOW, id="far-ahead"),
        pytest.param({"at": NOW - rollups.BEHIND_S}, NOW - rollups.BEHIND_S, id="as-old-as-can-be"),
        pytest.param({"at": 0}, NOW, id="1970"),
    ],
)
def test_a_heartbeat_belongs_to_the_time_it_was_made_when_that_can_be(
    changes: dict[str, Any], start: int
) -> None:
    assert rollups.start_of(status(**changes), NOW) == start - start % FIVE_S


@pytest.mark.parametrize(
    ("boot", "first", "new", "gaps"),
    [
        pytest.param(2, 8, True, [3, 4], id="the-next"),
        pytest.param(2, 11, True, [3, 4, 8, 10], id="skips-some"),
        pytest.param(2, 7, False, [3, 4], id="the-same-again"),
        pytest.param(2, 3, False, [3, 4], id="late"),
        pytest.param(3, 1, True, [], id="a-new-start"),
        pytest.param(3, 3, True, [1, 2], id="a-new-start-without-its-first"),
        pytest.param(1, 99, False, [3, 4], id="of-the-start-before"),
    ],
)
def test_a_run_is_new_when_it_begins_above_what_was_counted(
    boot: int, first: int, new: bool, gaps: list[int]
) -> None:
    state = Open(Bucket(), buckets.pack(Bucket()), [3, 4])
    assert rollups.is_run(state, (2, 7), boot, first) is new
    assert state.gaps == gaps


@FREELY
@given(
    st.lists(statuses(st.integers(1, 300), st.integers(HOURS_BACK, NOW)), max_size=30),
)
def test_a_row_keeps_the_whole_state(beats: list[Status]) -> None:
    state = rollups.unpack(None)
    rollups.count(state, None, beats, NOW)
    assert rollups.unpack(rollups.pack(state)) == state
