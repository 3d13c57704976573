"""`fail-next-update`: an update breaks where and how a signed command says, once, on a device that allows it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.updating import chaos
from edge.updating.chaos import KINDS, PHASES, Fault
from tests.edge.world import DESIRED_TOPIC, NOW, QUICK, Box, Source, build
from tests.topics import kit
from topics import codec
from topics.documents import Command
from topics.messages import UpdateResult

PLACES = [
    pytest.param(phase, state, id=phase)
    for phase, state in zip(PHASES, ("failed", "failed", "failed", "rolled_back", "rolled_back"), strict=True)
]


class Died(BaseException):
    """Stands for the end of the process, of which nothing goes on."""


def arm(box: Box, **args: str) -> Any:
    command = Command(id="c-1", kind="fail-next-update", expires_at=NOW + kit.DAY, args=args)
    box.hear(kit.signed_desired(box.numbers.next(), commands=[command]), DESIRED_TOPIC)
    return box.link.of("command-result")[-1]


def reports(box: Box) -> list[UpdateResult]:
    return [
        codec.decode(entry.body, UpdateResult, limit=65_536)
        for entry in box.spool.reports
        if entry.channel == "update-result"
    ]


@pytest.mark.parametrize(("phase", "state"), PLACES)
def test_an_update_fails_in_each_phase_and_is_condemned_only_by_what_the_device_ran(
    box: Box, phase: str, state: str
) -> None:
    """Only the report tells for good: on a slow machine the next try has ended well by the time it is looked at."""
    good, bad = build(7), build(8)
    box.offer(good)
    assert arm(box, phase=phase, kind="fail").ok
    box.offer(bad)
    ended = [report for report in reports(box) if report.release == bad.id][1]
    assert (ended.state, ended.from_release) == (state, good.id)
    assert ended.reason == f"made to fail in {phase} by command c-1"
    if state == "rolled_back":
        assert box.state.failed == [bad.id]
    else:
        box.pass_time(lambda: box.state.running_id == bad.id)


@pytest.mark.parametrize("phase", PHASES)
def test_a_crash_happens_once_and_the_update_goes_on_after_it(
    box: Box, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []

    def die(code: int) -> None:
        codes.append(code)
        raise Died

    monkeypatch.setattr(os, "_exit", die)
    arm(box, phase=phase, kind="crash")
    built = build(7)
    with pytest.raises(Died):
        box.offer(built)
    box.jobs.busy = False
    box.agent.on_job_end(chaos.CRASHED)
    box.pass_time(lambda: box.state.running_id == built.id)
    assert codes == [chaos.CRASHED]


def test_a_power_cut_takes_the_agent_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _signal: killed.append(pid))
    chaos.strike(Fault("stage", "power", "c-1"), 0)
    assert killed == [os.getppid(), os.getpid()]


def test_a_hang_lasts_for_the_time_limit_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    assert chaos.strike(Fault("stage", "hang", "c-1"), 7.5) == "made to hang in stage by command c-1"
    assert slept == [7.5]


def test_a_device_whose_own_settings_do_not_allow_it_says_no(tmp_path: Path, source: Source) -> None:
    box = Box(tmp_path, source, msgspec.structs.replace(QUICK, chaos=False))
    box.online()
    answer = arm(box)
    assert (answer.ok, answer.detail) == (False, "the device's own settings allow no chaos")
    built = build(7)
    box.offer(built)
    assert box.state.running_id == built.id
    box.close()


@pytest.mark.parametrize(
    "args",
    [
        pytest.param({"phase": "lunch"}, id="unknown phase"),
        pytest.param({"kind": "explode"}, id="unknown kind"),
    ],
)
def test_a_fault_that_the_agent_does_not_know_is_refused(box: Box, args: dict[str, str]) -> None:
    assert arm(box, **args).detail == "the agent knows no such fault"
    assert box.memory.armed == ""


def test_what_is_not_said_is_a_failure_in_probation(box: Box) -> None:
    assert arm(box).detail == "the next update will fail in probation"


def test_a_fault_is_read_as_it_was_written_and_only_in_its_phase() -> None:
    for fault in (Fault(phase, kind, "c-1") for phase in PHASES for kind in KINDS):
        assert {other: chaos.due(fault.text(), other) for other in PHASES} == {
            other: fault if other == fault.phase else None for other in PHASES
        }
    assert chaos.due("", "download") is None
