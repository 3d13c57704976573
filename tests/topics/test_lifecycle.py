"""The update's steps: which may follow which, and what a crash at any of them leads to."""

from __future__ import annotations

from typing import get_args

import pytest

from topics.errors import TransitionError
from topics.lifecycle import DURABLE, NEXT, RUNS_NEW, TERMINAL, Recovery, Restart, advance, after_crash
from topics.messages import UpdateState

STATES: tuple[UpdateState, ...] = get_args(UpdateState)
ALLOWED = [
    ("idle", "downloading"),
    ("idle", "refused"),
    ("downloading", "verified"),
    ("downloading", "failed"),
    ("verified", "staged"),
    ("verified", "failed"),
    ("staged", "activating"),
    ("staged", "failed"),
    ("activating", "probation"),
    ("activating", "rolling_back"),
    ("probation", "committed"),
    ("probation", "rolling_back"),
    ("rolling_back", "rolled_back"),
    ("committed", "idle"),
    ("failed", "idle"),
    ("rolled_back", "idle"),
    ("refused", "idle"),
]


@pytest.mark.parametrize("following", STATES)
@pytest.mark.parametrize("state", STATES)
def test_transition(state: UpdateState, following: UpdateState) -> None:
    if (state, following) in ALLOWED:
        assert advance(state, following) == following
        return
    with pytest.raises(TransitionError, match=f"an update that is {state} cannot become {following}"):
        advance(state, following)


def test_every_state_has_a_way_on_and_back_to_idle() -> None:
    """No state is a trap: a device can always come to rest."""
    assert set(NEXT) == set(STATES)
    for state in STATES:
        reached, frontier = {state}, {state}
        while frontier:
            frontier = {following for at in frontier for following in NEXT[at]} - reached
            reached |= frontier
        assert "idle" in reached


def test_a_failure_after_the_swap_always_goes_through_rolling_back() -> None:
    """Once something was changed, `failed` would leave the device on half a release."""
    assert "failed" not in NEXT["activating"] + NEXT["probation"]


def test_begin_and_end_are_what_the_hub_counts_by() -> None:
    assert {"downloading"} == DURABLE - TERMINAL
    assert {state for state in STATES if NEXT[state] == ("idle",)} == TERMINAL
    assert {"committed"} == RUNS_NEW, "a success is said only once it is proven"


CRASHES: list[tuple[UpdateState, int, Recovery]] = [
    ("idle", 0, "none"),
    ("downloading", 0, "start_over"),
    ("verified", 0, "start_over"),
    ("staged", 0, "start_over"),
    ("staged", 9, "start_over"),
    ("activating", 1, "activate_again"),
    ("activating", 2, "activate_again"),
    ("activating", 3, "roll_back"),
    ("activating", 4, "roll_back"),
    ("probation", 1, "probe_again"),
    ("probation", 3, "roll_back"),
    ("rolling_back", 1, "roll_back"),
    ("rolling_back", 9, "roll_back"),
    ("committed", 3, "report"),
    ("failed", 0, "report"),
    ("rolled_back", 3, "report"),
    ("refused", 0, "report"),
]


@pytest.mark.parametrize(("state", "activations", "recovery"), CRASHES)
def test_after_a_crash(state: UpdateState, activations: int, recovery: Recovery) -> None:
    assert after_crash(state, activations=activations, max_activations=3) == recovery


RESTARTS: list[tuple[UpdateState, int, Restart, Recovery]] = [
    ("activating", 1, "wanted", "restart"),
    ("activating", 3, "wanted", "restart"),
    ("activating", 1, "done", "probe"),
    ("activating", 3, "done", "probe"),
    ("probation", 1, "wanted", "restart"),
    ("probation", 1, "done", "probe_again"),
    ("probation", 3, "done", "roll_back"),
    ("rolling_back", 1, "wanted", "restart"),
    ("rolling_back", 1, "done", "roll_back"),
]


@pytest.mark.parametrize(("state", "activations", "restart", "recovery"), RESTARTS)
def test_after_a_restart_that_was_asked_for(
    state: UpdateState, activations: int, restart: Restart, recovery: Recovery
) -> None:
    """R2: no restart leads to `committed`; what the machine came up with is asked first."""
    assert after_crash(state, activations=activations, max_activations=3, restart=restart) == recovery


def test_every_state_has_a_crash_row() -> None:
    assert {state for state, _, _ in CRASHES} == set(STATES)
    recoveries = {row[-1] for row in [*CRASHES, *RESTARTS]}
    assert recoveries == set(get_args(Recovery))
