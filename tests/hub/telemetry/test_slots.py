"""Packed hours: what people look at survives the packing, and late hours weigh by their counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.telemetry import slots
from hub.telemetry.buckets import Bucket
from hub.telemetry.rollups import DAY_S, HOUR_S
from hub.telemetry.slots import SLOT_BYTES, WHOLE_DAY, Slot
from tests.hub.telemetry.beats import FREELY, statuses
from topics.messages import Status

DAY = 20_000 * DAY_S

shares = st.none() | st.integers(0, 32_000).map(lambda n: n / 1_000)
degrees = st.none() | st.integers(-32_000, 32_000).map(lambda n: n / 100)


@st.composite
def some_slots(draw: st.DrawFn, hour: st.SearchStrategy[int]) -> Slot:
    values: list[float | None] = []
    for kind in (shares, shares, shares, degrees):
        pair = (draw(kind), draw(kind))
        values += (None, None) if None in pair else pair
    return Slot(draw(hour), draw(st.integers(0, 2)), draw(st.integers(1, 2**32 - 1)), *values)


hours = st.lists(some_slots(st.integers(0, 23)), unique_by=lambda slot: slot.hour, max_size=24)


@FREELY
@given(hours)
def test_hours_come_out_as_they_went_in(found: list[Slot]) -> None:
    packed = slots.pack(found)
    assert len(packed) == SLOT_BYTES * len(found)
    for before, after in zip(found, slots.unpack(packed), strict=True):
        assert after == pytest.approx(before)


@FREELY
@given(hours, hours)
def test_adding_hours_keeps_every_heartbeat_and_the_order(first: list[Slot], second: list[Slot]) -> None:
    found = slots.added(first, second)
    assert [slot.hour for slot in found] == sorted({slot.hour for slot in [*first, *second]})
    assert sum(slot.heartbeats for slot in found) == sum(slot.heartbeats for slot in [*first, *second])


@FREELY
@given(some_slots(st.just(3)), some_slots(st.just(3)))
def test_which_came_first_makes_no_difference(first: Slot, second: Slot) -> None:
    assert slots.merged(first, second) == pytest.approx(slots.merged(second, first))


@FREELY
@given(hours)
def test_a_day_is_all_of_its_hours(found: list[Slot]) -> None:
    day = slots.whole_day(found)
    if day is None:
        assert not found
        return
    assert (day.hour, day.heartbeats) == (WHOLE_DAY, sum(slot.heartbeats for slot in found))
    assert day.health == max(slot.health for slot in found)
    highest = [slot.cpu_max for slot in found if slot.cpu_max is not None]
    assert day.cpu_max == (max(highest) if highest else None)


@FREELY
@given(st.lists(statuses(st.just(1), st.just(DAY)), min_size=1, max_size=8), st.integers(0, 23))
def test_an_hours_bucket_becomes_its_means_and_maxima(beats: list[Status], hour: int) -> None:
    bucket = Bucket(DAY + hour * HOUR_S)
    for beat in beats:
        bucket.add(beat)
    slot = slots.slot_of(bucket)
    assert (slot.hour, slot.heartbeats, slot.health) == (hour, len(beats), bucket.health)
    loads = [beat.probes.cpu_load for beat in beats if beat.probes]
    warm = [beat.probes.temperature for beat in beats if beat.probes and beat.probes.temperature is not None]
    assert slot.cpu_mean == (pytest.approx(sum(loads) / len(loads)) if loads else None)
    assert slot.cpu_max == (max(0.0, *loads) if loads else None)
    assert slot.degree_max == (max(warm) if warm else None)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        pytest.param(1e9, 32.767, id="above-the-scale"),
        pytest.param(-1e9, -32.767, id="below-the-scale"),
        pytest.param(0.12345, 0.123, id="finer-than-the-scale"),
        pytest.param(None, None, id="nothing-read"),
    ],
)
def test_what_is_beyond_the_scale_is_kept_as_its_end(value: float | None, kept: float | None) -> None:
    (slot,) = slots.unpack(slots.pack([Slot(0, 0, 1, value, value, *[None] * 6)]))
    assert (slot.cpu_mean, slot.cpu_max) == (kept, kept)


def test_means_weigh_by_their_counts() -> None:
    merged = slots.merged(Slot(5, 0, 3, 0.25, 0.5, *[None] * 6), Slot(5, 2, 1, 0.75, 0.25, *[None] * 6))
    assert merged == Slot(5, 2, 4, 0.375, 0.5, *[None] * 6)
