"""Whatever comes in whatever order, and whenever a device is taken for silent: each heartbeat counts once a tier."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hub.telemetry import buckets, rollups
from hub.telemetry.rollups import FIVE_S, HOUR_S, Passed
from hub.telemetry.silent import emptied
from tests.support.uplinks import status

BEGIN = 20_000 * 86_400
CLOSE = None
"""The device is taken for silent."""

steps = st.lists(st.one_of(st.just(CLOSE), st.integers(1, 40)), max_size=60)
minutes = st.lists(st.integers(0, 400), min_size=40, max_size=40)


@given(steps, minutes)
def test_closing_at_any_moment_loses_and_doubles_nothing(order: list[int | None], when: list[int]) -> None:
    """Heartbeats by number, in any order and again and again; number n was made at minute `when[n - 1]`."""
    packed, latest = None, None
    fives: Counter[int] = Counter()
    hours: Counter[int] = Counter()

    def add(passed: Passed) -> None:
        for bucket in passed.fives:
            fives[bucket.start] += bucket.count
        for bucket in passed.hours:
            hours[bucket.start] += bucket.count

    for seq in [*order, CLOSE]:
        state = rollups.unpack(packed)
        if seq is CLOSE:
            add(emptied(state))
        else:
            beat = status(seq, at=BEGIN + 60 * when[seq - 1])
            changed, passed = rollups.count(state, latest, [beat], BEGIN + 60 * 400)
            add(passed)
            if changed:
                latest = (1, max(seq, latest[1] if latest else 0))
        packed = rollups.pack(state)

    once = {seq for seq in order if seq is not CLOSE}
    times = [BEGIN + 60 * when[seq - 1] for seq in once]
    assert +fives == Counter(at - at % FIVE_S for at in times)
    assert +hours == Counter(at - at % HOUR_S for at in times)
    last = rollups.unpack(packed)
    assert last.five.count == buckets.unpack(last.hour).count == 0
