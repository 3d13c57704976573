"""Sums of heartbeats: packed or not, one by one or merged, they are the same."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.telemetry import buckets
from hub.telemetry.buckets import BUCKET_BYTES, Bucket
from tests.hub.telemetry.beats import FREELY, probes, statuses
from tests.support.uplinks import status
from topics.messages import Probes, Status

START = 1_789_999_800
BEATS = st.lists(statuses(st.just(1), st.just(START)), max_size=12)


def summed(beats: list[Status], start: int = START) -> Bucket:
    bucket = Bucket(start)
    for beat in beats:
        bucket.add(beat)
    return bucket


@FREELY
@given(BEATS)
def test_a_packed_bucket_is_the_bucket(beats: list[Status]) -> None:
    bucket = summed(beats)
    packed = buckets.pack(bucket)
    assert len(packed) == BUCKET_BYTES
    assert buckets.unpack(packed) == bucket


@FREELY
@given(BEATS, probes)
def test_adding_to_a_packed_bucket_is_adding_to_the_bucket(beats: list[Status], readings: Probes) -> None:
    beat = status(probes=readings)
    packed = buckets.pack(summed(beats)) + b"what follows it"
    assert buckets.add_packed(packed, beat, START) == buckets.pack(summed([*beats, beat]))


@FREELY
@given(probes)
def test_a_packed_bucket_begins_as_a_bucket_does(readings: Probes) -> None:
    beat = status(probes=readings)
    assert buckets.begin_packed(beat, START) == buckets.pack(summed([beat]))


@FREELY
@given(BEATS, BEATS)
def test_merging_is_adding_up_what_both_counted(first: list[Status], second: list[Status]) -> None:
    merged = summed(first)
    merged.merge(summed(second))
    assert merged == summed([*first, *second])


@FREELY
@given(BEATS, BEATS, st.binary(max_size=9))
def test_merging_into_a_packed_bucket_is_merging(
    first: list[Status], second: list[Status], before: bytes
) -> None:
    data = before + buckets.pack(summed(first))
    assert buckets.merge_packed(data, len(before), summed(second, 0)) == buckets.pack(
        summed([*first, *second])
    )


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        pytest.param({"probes": Probes()}, START + 300, id="of-other-five-minutes"),
        pytest.param({"probes": Probes(), "health": "degraded"}, START, id="unhealthy"),
        pytest.param({}, START, id="without-probes"),
    ],
)
def test_what_a_packed_bucket_cannot_take_is_left_to_the_bucket(changes: dict[str, Any], start: int) -> None:
    assert buckets.add_packed(buckets.pack(summed([status()])), status(**changes), start) is None


@pytest.mark.parametrize("changes", [{"probes": Probes(), "health": "failing"}, {}])
def test_what_cannot_begin_a_packed_bucket_is_left_to_the_bucket(changes: dict[str, Any]) -> None:
    assert buckets.begin_packed(status(**changes), START) is None


def test_the_worst_health_stays_whatever_comes_after() -> None:
    ranks = [summed([status(health=health)]).health for health in buckets.HEALTHS]
    assert all(better < worse for better, worse in pairwise(ranks))
    beats = [status(health=health) for health in ("ok", "failing", "degraded", "ok")]
    assert summed(beats).health == buckets.RANKS["failing"]


def test_the_highest_of_temperatures_below_zero_is_below_zero() -> None:
    cold = [status(probes=Probes(temperature=degrees)) for degrees in (-20.0, -5.0, -12.0)]
    assert (summed(cold).degree_max, summed(cold).warm) == (-5.0, 3)
    mixed = summed([status(probes=Probes())])
    mixed.merge(summed(cold))
    assert mixed.degree_max == -5.0
