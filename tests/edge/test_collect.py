"""Diagnostics that the agent sends: by command and on entering safe mode, whole, bounded, and kept on the device."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from edge.diagnose import collect
from edge.diagnose.finding import Finding, failed, passed, skipped, warned
from edge.logs import book
from edge.storage import records
from tests.edge.world import DESIRED_TOPIC, NOW, Box, build
from tests.topics import kit
from topics import codec
from topics.channels import RECOVERY
from topics.documents import Command
from topics.messages import Recovery

KEYS = {"checks", "log", "disk", "errors", "probes"}


def reports(box: Box) -> list[Recovery]:
    return [
        codec.decode(entry.body, Recovery, limit=RECOVERY.limit)
        for entry in box.spool.reports
        if entry.channel == "recovery"
    ]


def order(box: Box) -> None:
    command = Command(id="c-1", kind="collect-diagnostics", expires_at=NOW + kit.DAY)
    box.hear(kit.signed_desired(box.numbers.next(), commands=[command]), DESIRED_TOPIC)


@pytest.fixture
def logged(box: Box) -> Iterator[logging.Logger]:
    """A logger whose lines go to the device's file."""
    handler = book.Book(box.paths, book.AGENT)
    log = logging.getLogger("flaghoist")
    log.addHandler(handler)
    yield log
    log.removeHandler(handler)


def test_collected_by_command_they_are_reported_durably_and_kept(box: Box, logged: logging.Logger) -> None:
    box.offer(build(7))
    box.offer(build(8, {"files/fail-activate": b""}))
    logged.warning("the modem\nis slow")
    order(box)
    assert box.link.of("command-result")[-1].ok
    (report,) = reports(box)
    assert (report.state, report.entry, report.reason) == ("diagnostics", "", "command c-1")
    assert report.release == build(7).id
    assert set(report.diagnostics) == KEYS
    checks = json.loads(report.diagnostics["checks"])
    assert {each["name"] for each in checks} >= {"clock", "disk space", "identity"}
    assert all(set(each) == {"name", "verdict", "detail", "remedy"} for each in checks)
    assert "the modem is slow" in report.diagnostics["log"]
    assert "no activate today" in report.diagnostics["errors"]
    assert json.loads(report.diagnostics["disk"])["free_bytes"] > 0
    assert json.loads(report.diagnostics["probes"])["uptime"] > 0
    kept = json.loads((box.paths.root / "diagnostics.json").read_text())
    assert kept["reason"] == "command c-1" and kept["errors"] == report.diagnostics["errors"]


def test_they_are_collected_once_however_often_the_command_comes(box: Box) -> None:
    for _ in range(3):
        order(box)
    box.start()
    box.online()
    order(box)
    assert len(reports(box)) == 1


def test_on_entering_safe_mode_they_are_sent_unasked(box: Box) -> None:
    box.offer(build(7))
    for sequence in (8, 9, 10):
        box.offer(build(sequence, {"files/fail-activate": b""}))
    entered, told = reports(box)
    assert (entered.state, told.state) == ("entered", "diagnostics")
    assert told.entry == entered.entry == box.state.safe_mode
    assert told.reason == f"safe mode: {entered.reason}"
    named = {each["name"]: each["verdict"] for each in json.loads(told.diagnostics["checks"])}
    assert named["identity"] == "fail", "this device of the tests has none"


def test_a_power_cut_before_they_are_written_down_collects_them_again(box: Box) -> None:
    box.agent.change_state(records.changed(box.state, collect="command c-9"))
    box.start()
    box.online()
    assert [report.reason for report in reports(box)] == ["command c-9"]
    assert box.state.collect == ""


def test_the_largest_that_can_be_fit_into_a_message(box: Box) -> None:
    findings = [make(f"{n}", "ä" * 1000, "ö" * 1000) for n in range(100) for make in (warned, failed)]
    told = {
        "checks": collect.checks(findings),
        "log": collect.cut("ä" * 100_000, collect.LOG_BYTES, keep_end=True),
        **{key: collect.cut("\0ä" * 100_000, collect.SMALL_BYTES) for key in ("disk", "errors", "probes")},
    }
    report = collect.report(told, box.state, "x" * 5000, box.memory.boot, NOW // 1000)
    body = codec.encode(report)
    assert len(body) <= RECOVERY.limit * 3 / 4
    assert codec.decode(body, Recovery, limit=RECOVERY.limit).diagnostics == told


def test_what_passed_is_left_out_before_what_is_wrong() -> None:
    many: list[Finding] = [passed(f"well-{n}", "x" * 200) for n in range(100)]
    many += [skipped("skipped", "x"), warned("warned", "x", "Do."), failed("failed", "x", "Do.")]
    names = [each["name"] for each in json.loads(collect.checks(many))]
    assert names[-3:] == ["skipped", "warned", "failed"]
    assert len(names) < len(many)


def test_the_newest_log_lines_survive_a_cut() -> None:
    assert collect.cut("old\nnew", 3, keep_end=True) == "new"


def test_the_log_file_is_bounded_and_one_line_is_one_line(box: Box, logged: logging.Logger) -> None:
    logged.warning("x" * 5000)
    for n in range(500):
        logged.warning("line %d %s", n, "y" * 500)
    sizes = [path.stat().st_size for path in (book.place(box.paths), book.before(box.paths))]
    assert max(sizes) <= book.LIMIT + 2 * book.MAX_LINE
    assert [" 499 " in line for line in book.last(box.paths, 2)] == [False, True]
    assert len(book.last(box.paths, 50)) == 50


def test_an_exception_stands_in_the_log_by_its_kind_without_its_traceback(
    box: Box, logged: logging.Logger
) -> None:
    try:
        raise ValueError("no such\nthing")
    except ValueError:
        logged.exception("passed over")
    assert book.last(box.paths, 1)[0].endswith("ERROR agent: passed over (ValueError: no such thing)")
