"""Each system call of the update process fails once: no traceback, no report lost, and it goes on without the fault."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing

import pytest

from edge.updating import stage
from tests.kills.device import OLD, ordered
from tests.kills.record import sent
from tests.kills.strace import Place, traced
from tests.kills.ward import EVERYTHING, HEAVY_STEP, ORDERS_BY_NAME, TASKS_BY_NAME, Ward, only

DISK = ("ENOSPC", "EIO", "EROFS", "EDQUOT")
NETWORK = ("ECONNRESET", "ETIMEDOUT", "EIO")
PROCESS = ("EAGAIN", "ENOMEM")
SAMPLE = 3
"""Failures in the quick suite."""


def errors(call: str) -> tuple[str, ...]:
    """How a call may fail."""
    if call in ("connect", "accept4") or call.startswith(("send", "recv")):
        return NETWORK
    if call in ("socket", "pipe2", "pipe", "socketpair"):
        return ("EMFILE", "ENFILE")
    if call in ("vfork", "fork", "clone", "clone3", "execve"):
        return PROCESS
    return (*DISK, "EMFILE") if call.startswith("open") else DISK


def failed(ward: Ward, place: Place, error: str) -> None:
    """Let one call fail, the agent go on, and see that all is right."""
    with closing(ward.copy()) as copy:
        copy.start()
        copy.agent.start()
        copy.agent.will()
        copy.agent.on_connected()
        ending = ward.nursery.fail_at(place, error, copy.command("update"))
        assert ending.code in (0, 1, 3), ending
        assert "Traceback" not in ending.said, ending.said
        copy.whole()
        copy.jobs.busy = False
        copy.agent.on_progress()
        copy.agent.on_job_end(ending.code)
        copy.settle()
        copy.comes_to_rest()
        if copy.task.new is OLD and not stage.stands(copy.paths, OLD.release):
            # A repair that was in vain is told as that, and may be ordered again.
            copy.hear(ordered(copy, "repair-drift"), copy.task.topic)
        # The next regular look tidies up, where nothing was left but that.
        copy.agent.check_now()
        copy.settle()
        copy.is_right()
        ward.record.told_once(copy, sent(copy.spool), tries=True)
        copy.takes_the_next()


def everywhere(ward: Ward, chosen: list[tuple[Place, str]]) -> None:
    """Let each of the calls fail; names the call when something is wrong."""
    for place, error in chosen:
        try:
            failed(ward, place, error)
        except Exception as trouble:
            trouble.add_note(f"{error} at {place} of {ward.master.task.name}")
            raise
    print(f"{ward.master.task.name}: {len(chosen)} failures at {len(ward.places)} places")


def ways(ward: Ward) -> Iterator[tuple[Place, str]]:
    """Every place, with each error that it may meet or, unless everything is asked for, with one of them in turn."""
    for number, place in enumerate(ward.places):
        known = errors(place.call)
        yield from ((place, error) for error in (known if EVERYTHING else (known[number % len(known)],)))


@traced
@only("into safe mode")
def test_some_failing_calls_lose_nothing_and_wedge_nothing(ward: Ward) -> None:
    everywhere(ward, random.Random(ward.master.task.name).sample(list(ways(ward)), SAMPLE))


@pytest.mark.heavy
@pytest.mark.timeout(1200)
@traced
@TASKS_BY_NAME
def test_no_failing_call_loses_or_wedges_anything(ward: Ward) -> None:
    everywhere(ward, list(ways(ward)))


@pytest.mark.heavy
@pytest.mark.timeout(1200)
@traced
@ORDERS_BY_NAME
def test_a_call_that_fails_while_an_order_is_carried_out_loses_and_wedges_nothing(ward: Ward) -> None:
    everywhere(ward, list(ways(ward))[:: 1 if EVERYTHING else HEAVY_STEP])
