"""Who is held back, let go, or given a release again: the pure rules as named rows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hub.recovery.rules import (
    HOUR_MS,
    REQUIRED,
    Check,
    Diagnostics,
    Held,
    Limits,
    Rule,
    Stay,
    Trouble,
    crowded_out,
    failures_in_a_row,
    is_storm,
    may_go,
    read_diagnostics,
    redeploy_refusal,
    stays,
    superseded,
    takes_over,
)
from topics.messages import Recovery, UpdateResult

BOOT = (1, "00000000")
SPOOL = "0a1b2c3d"


def diagnostics(at: int, *changed: Check, without: str = "") -> Diagnostics:
    """All that is required passes, but for what is changed or left out."""
    checks = {name: Check(name, "pass") for name in REQUIRED if name != without}
    checks |= {check.name: check for check in changed}
    return Diagnostics(at, tuple(checks.values()))


def stay(left_at: int | None = None, entered_at: int = 5) -> Stay:
    return Stay("own-1-1", entered_at, "", None, left_at)


GO = [
    pytest.param({"rule": "operator", "diagnostics": diagnostics(99)}, False, id="a person's is a person's"),
    pytest.param({"rule": "safe_mode", "stay": stay()}, False, id="still in safe mode"),
    pytest.param({"rule": "safe_mode", "stay": stay(20)}, False, id="left, nothing known since"),
    pytest.param(
        {"rule": "safe_mode", "stay": stay(20), "diagnostics": diagnostics(19)}, False, id="diagnostics too early"
    ),
    pytest.param(
        {"rule": "safe_mode", "stay": stay(20), "diagnostics": diagnostics(20)}, True, id="left, and diagnostics since"
    ),
    pytest.param(
        {"rule": "safe_mode", "stay": stay(20), "diagnostics": diagnostics(21, Check("memory", "fail"))}, False,
        id="left, and a required check fails",
    ),
    pytest.param(
        {"rule": "safe_mode", "stay": stay(20), "diagnostics": diagnostics(21, Check("service", "fail"))}, False,
        id="left, and its service fails",
    ),
    pytest.param(
        {"rule": "safe_mode", "stay": stay(20), "diagnostics": diagnostics(21, Check("load", "fail"))}, True,
        id="left, and what fails is not asked for",
    ),
    pytest.param(
        {"rule": "safe_mode", "stay": stay(9), "diagnostics": diagnostics(30)}, False, id="it left an earlier stay"
    ),
    pytest.param({"rule": "failures"}, False, id="failures, nothing since"),
    pytest.param({"rule": "failures", "committed": True}, True, id="failures, and a success since"),
    pytest.param(
        {"rule": "failures", "committed": True, "stay": stay()}, False, id="a success, but in safe mode by now"
    ),
    pytest.param({"rule": "drift", "drifting": True}, False, id="still drifting"),
    pytest.param({"rule": "drift"}, True, id="the drift is gone"),
    pytest.param(
        {"rule": "restarts", "diagnostics": diagnostics(9 + HOUR_MS)}, False, id="restarts, diagnostics too early"
    ),
    pytest.param(
        {"rule": "restarts", "diagnostics": diagnostics(10 + HOUR_MS)}, True, id="restarts, diagnostics an hour later"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("known", "goes"), GO)
def test_a_rule_lets_a_device_go_when_its_cause_is_gone(known: dict[str, Any], goes: bool) -> None:
    assert bool(may_go(Held(**{"since": 10, **known}))) is goes


@pytest.mark.parametrize(
    ("held_by", "found", "holds"),
    [
        pytest.param("", [], None, id="nothing was found"),
        pytest.param("", ["restarts", "failures"], "failures", id="the first of the table"),
        pytest.param("drift", ["failures"], None, id="held already"),
        *(
            pytest.param(name, ["safe_mode"], "safe_mode", id=f"after {name}")
            for name in ("failures", "drift", "restarts")
        ),
        pytest.param("safe_mode", ["safe_mode"], None, id="in safe mode again"),
        pytest.param("operator", ["safe_mode"], None, id="a person's stays a person's"),
    ],
)
def test_safe_mode_takes_over_from_other_rules_and_nothing_else_does(
    held_by: str, found: list[Rule], holds: str | None
) -> None:
    assert takes_over(held_by, found) == holds


REDEPLOY = [
    pytest.param(None, None, None, id="a device without trouble needs none"),
    pytest.param(10, None, [], id="none at all"),
    pytest.param(10, diagnostics(9), [], id="of before its trouble"),
    pytest.param(10, diagnostics(10), None, id="all pass"),
    pytest.param(10, diagnostics(10, Check("memory", "warn")), None, id="a warning passes"),
    pytest.param(10, diagnostics(10, Check("memory", "fail")), ["memory"], id="one fails"),
    pytest.param(10, diagnostics(10, Check("memory", "skip")), ["memory"], id="one could not be made"),
    pytest.param(10, diagnostics(10, without="clock"), ["clock"], id="one is missing"),
    pytest.param(
        10, diagnostics(10, Check("service", "fail")), None, id="what fails is what redeploy is for"
    ),
]


@pytest.mark.parametrize(("since", "found", "not_passed"), REDEPLOY)
def test_a_device_in_trouble_is_given_a_release_once_its_diagnostics_pass(
    since: int | None, found: Diagnostics | None, not_passed: list[str] | None
) -> None:
    refusal = redeploy_refusal(Trouble(since=since, diagnostics=found))
    assert (None if refusal is None else [check.name for check in refusal[1]]) == not_passed


def result(state: Any, cause: Any = "own") -> UpdateResult:
    return UpdateResult(boot=BOOT, at=0, spool=SPOOL, n=1, state=state, cause=cause)


@pytest.mark.parametrize(
    ("newest_first", "count"),
    [
        pytest.param([], 0, id="nothing reported"),
        pytest.param(
            [result("rolled_back"), result("downloading"), result("rolled_back")], 2, id="two in a row"
        ),
        pytest.param(
            [result("rolled_back"), result("committed"), result("rolled_back")], 1, id="a success between"
        ),
        pytest.param(
            [result("rolled_back", "ordered"), result("rolled_back")], 1, id="an ordered one is none"
        ),
        pytest.param(
            [result("failed"), result("refused"), result("rolled_back")], 1, id="not activated is none"
        ),
    ],
)
def test_failed_activations_in_a_row_are_counted(newest_first: list[UpdateResult], count: int) -> None:
    assert failures_in_a_row(newest_first) == count


@pytest.mark.parametrize(
    ("quarantined", "devices", "percent", "storm"),
    [
        pytest.param(3, 29, 10, True, id="over the share"),
        pytest.param(3, 30, 10, False, id="exactly the share"),
        pytest.param(2, 4, 10, False, id="too few to be a storm"),
        pytest.param(30, 30, 0, False, id="switched off"),
    ],
)
def test_many_of_a_role_within_an_hour_are_a_storm(
    quarantined: int, devices: int, percent: int, storm: bool
) -> None:
    assert is_storm(quarantined, devices, Limits(storm_percent=percent)) is storm


def recovery(state: Any, entry: str = "own-1-1", **changes: Any) -> Recovery:
    return Recovery(boot=BOOT, at=0, spool=SPOOL, n=1, state=state, entry=entry, **changes)


def test_stays_are_told_newest_first_with_their_ends() -> None:
    told = [
        (recovery("left", "own-0-9"), 1),
        (recovery("entered", "own-1-1", reason="three failures"), 10),
        (recovery("left", "own-1-1", reason="cleared"), 20),
        (recovery("entered", "ordered-7"), 30),
    ]
    assert stays(told) == [
        Stay("ordered-7", 30, "", None),
        Stay("own-1-1", 10, "three failures", None, 20, "cleared"),
    ]
    assert [one.ordered for one in stays(told)] == [True, False]


def test_diagnostics_are_read_as_the_device_wrote_them() -> None:
    checks = msgspec.json.encode(
        [{"name": "memory", "verdict": "fail", "detail": "full", "remedy": "Free it."}]
    )
    report = recovery(
        "diagnostics", "", diagnostics={"checks": checks.decode(), "log": "a line", "more": "x"}
    )
    assert read_diagnostics(report, 7) == Diagnostics(
        7, (Check("memory", "fail", "full", "Free it."),), "a line"
    )


def test_checks_that_cannot_be_read_pass_nothing() -> None:
    read = read_diagnostics(recovery("diagnostics", "", diagnostics={"checks": "[{"}), 7)
    assert [check.name for check in read.not_passed()] == list(REQUIRED)


def test_a_newer_command_replaces_one_of_its_kind_and_too_many_push_out_the_oldest() -> None:
    pending = [{"id": "a", "kind": "redeploy"}, {"id": "b", "kind": "report-now"}]
    assert superseded(pending, "report-now") == ["b"]
    assert crowded_out(pending, 3) == []
    assert crowded_out(pending, 2) == ["a"]
