"""SIGKILL at every system call by which the update process changes the disk or reaches another process or machine."""

from __future__ import annotations

import random
from contextlib import closing

import pytest

from tests.kills.record import sent
from tests.kills.strace import Place, places, traced
from tests.kills.ward import EVERYTHING, HEAVY_STEP, ORDERS_BY_NAME, TASKS_BY_NAME, Ward, only

SAMPLE = 3
"""Places in the quick suite."""


def killed(ward: Ward, place: Place) -> None:
    """Kill the update process at a place, let the power return, and see that all is right."""
    with closing(ward.copy()) as copy:
        ending = ward.nursery.kill_at(place, copy.command("update"))
        # How many pieces an answer comes in is the network's affair.
        assert ending.killed or (place.call == "recvfrom" and ending.code == 0), ending
        copy.whole()
        copy.power_returns()
        copy.comes_to_rest()
        copy.is_right()
        ward.record.told_once(copy, sent(copy.spool))
        copy.takes_the_next()


def everywhere(ward: Ward, chosen: list[Place]) -> None:
    """Kill at each of the places; names the place when something is wrong."""
    for place in chosen:
        try:
            killed(ward, place)
        except Exception as error:
            error.add_note(f"killed at {place} of {ward.master.task.name}")
            raise
    calls = len({place.call for place in ward.places})
    print(
        f"{ward.master.task.name}: killed at {len(chosen)} of {len(ward.places)} places, {calls} kinds of call"
    )


@traced
@only("file by file")
def test_killed_at_some_system_calls_it_ends_with_one_whole_release_told_once(ward: Ward) -> None:
    everywhere(ward, random.Random(ward.master.task.name).sample(ward.places, SAMPLE))


@pytest.mark.heavy
@pytest.mark.timeout(1200)
@traced
@TASKS_BY_NAME
def test_killed_at_every_system_call_it_ends_with_one_whole_release_told_once(ward: Ward) -> None:
    everywhere(ward, ward.places)


@pytest.mark.heavy
@pytest.mark.timeout(1200)
@traced
@ORDERS_BY_NAME
def test_killed_while_an_order_is_carried_out_it_is_carried_out_and_told_once(ward: Ward) -> None:
    everywhere(ward, ward.places[:: 1 if EVERYTHING else HEAVY_STEP])


def test_places_are_what_changes_something_and_calls_that_nobody_knows_are_among_them() -> None:
    trace = """openat(AT_FDCWD, ""..., O_RDONLY|O_CLOEXEC) = 3
read(3, ""..., 10) = 10
openat(AT_FDCWD, ""..., O_WRONLY|O_CREAT, 0600) = 3
write(3, ""..., 10) = 10
--- SIGCHLD {si_signo=SIGCHLD} ---
splice_to_mars(3) = 0
write(3, ""..., 10) = -1 ENOSPC (No space left on device)
+++ exited with 0 +++
"""
    found = [Place("openat", 2), Place("write", 1), Place("splice_to_mars", 1), Place("write", 2)]
    assert places(trace) == found
