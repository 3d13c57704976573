"""Observed time passes only while devices are heard, and begins anew when the wall clock jumps."""

from __future__ import annotations

import pytest

from hub.broker.observed import STALE_S, Observed


class Clocks:
    """A wall clock (ms) and a steady one (s), and what is judged by them."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_750_000_000_000, 50.0
        self.observed = Observed(lambda: self.wall, lambda: self.steady)

    def pass_by(self, seconds: float) -> None:
        self.wall += round(seconds * 1000)
        self.steady += seconds


def test_it_is_the_present_until_devices_are_heard() -> None:
    clocks = Clocks()
    assert clocks.observed.since == clocks.wall
    clocks.pass_by(10)
    assert clocks.observed.since == clocks.wall


def test_it_stands_while_devices_are_heard_and_ends_with_that() -> None:
    clocks = Clocks()
    clocks.observed.begin()
    began = clocks.wall
    for _ in range(100):
        clocks.pass_by(30)
        clocks.observed.begin()
        assert clocks.observed.since == began
    clocks.observed.end()
    assert clocks.observed.since == clocks.wall


@pytest.mark.parametrize(
    "jump",
    [
        pytest.param(3_600, id="an-hour-forward"),
        pytest.param(-86_400, id="a-day-back"),
        pytest.param(365 * 86_400, id="from-1970-to-the-present"),
    ],
)
def test_a_jump_of_the_wall_clock_begins_it_anew(jump: int) -> None:
    clocks = Clocks()
    clocks.observed.begin()
    clocks.pass_by(30)
    clocks.observed.begin()
    clocks.wall += jump * 1000
    jumped = clocks.wall
    assert clocks.observed.since == jumped
    clocks.observed.begin()
    clocks.pass_by(30)
    assert clocks.observed.since == jumped, "once a jump"


def test_a_machine_that_slept_has_heard_nobody_meanwhile() -> None:
    clocks = Clocks()
    clocks.observed.begin()
    clocks.wall += 8 * 3_600_000
    clocks.observed.begin()
    assert clocks.observed.since == clocks.wall


def test_what_is_not_confirmed_any_more_is_not_observed() -> None:
    """A process that stood still, a commit that takes minutes, a backlog that grows."""
    clocks = Clocks()
    clocks.observed.begin()
    began = clocks.wall
    clocks.pass_by(STALE_S)
    assert clocks.observed.since == began
    clocks.pass_by(1)
    assert clocks.observed.since == clocks.wall
    clocks.pass_by(1_000)
    clocks.observed.begin()
    again = clocks.wall
    clocks.pass_by(30)
    assert clocks.observed.since == again


def test_a_clock_that_is_slewed_does_not_jump() -> None:
    clocks = Clocks()
    clocks.observed.begin()
    began = clocks.wall
    for _ in range(10_000):
        clocks.pass_by(30)
        clocks.wall += 15
        clocks.observed.begin()
        assert clocks.observed.since == began
