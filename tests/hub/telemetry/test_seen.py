"""Whatever the order in which heartbeats come, each is counted once and none twice."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hub.telemetry.seen import GAPS, fill, skip
from tests.hub.telemetry.beats import FREELY


class Seen:
    """A device's highest number and gaps, as its row keeps them."""

    def __init__(self) -> None:
        self.top = 0
        self.gaps: list[int] = []
        self.counted: Counter[int] = Counter()

    def take(self, seq: int) -> None:
        if seq > self.top:
            skip(self.gaps, self.top, seq)
            self.top = seq
        elif not fill(self.gaps, seq):
            return
        self.counted[seq] += 1


@FREELY
@given(st.lists(st.integers(1, 80), max_size=200))
def test_each_number_is_counted_once_whatever_the_order(numbers: list[int]) -> None:
    seen = Seen()
    for seq in numbers:
        seen.take(seq)
    assert seen.counted == Counter(set(numbers))


@FREELY
@given(st.lists(st.integers(1, 80), max_size=60))
def test_gaps_are_what_lies_below_the_highest_and_did_not_come(numbers: list[int]) -> None:
    seen = Seen()
    for seq in numbers:
        seen.take(seq)
    runs = list(zip(seen.gaps[::2], seen.gaps[1::2], strict=True))
    missing = [seq for first, last in runs for seq in range(first, last + 1)]
    assert missing == sorted(set(range(1, seen.top)) - set(numbers))
    assert all(first <= last for first, last in runs)


@FREELY
@given(st.permutations(range(1, 2 * GAPS + 100, 2)))
def test_never_twice_when_there_are_more_gaps_than_are_kept(numbers: list[int]) -> None:
    seen = Seen()
    again = [*sorted(numbers), *numbers, *range(1, 2 * GAPS + 100)]
    for seq in again:
        seen.take(seq)
        assert len(seen.gaps) <= 2 * GAPS
    assert max(seen.counted.values()) == 1


def test_the_oldest_gaps_are_given_up_first() -> None:
    seen = Seen()
    for seq in range(2, 2 * GAPS + 4, 2):  # one gap more than are kept
        seen.take(seq)
    seen.take(1)
    seen.take(3)
    assert 1 not in seen.counted
    assert seen.counted[3] == 1
