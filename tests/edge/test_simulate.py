"""Simulated fleets: fates by seed, the figures of a run, and what the command says when it cannot run."""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge import resident
from edge.main import main
from edge.simulate import options, report
from edge.simulate.fate import SLOW_FACTOR, Fate, Odds, fate
from edge.simulate.report import Seen
from edge.simulate.tally import Crossing, Outcome, Tally, Tolerance, crossing
from topics import enrolment
from topics.messages import UpdateResult

RELEASE = "kiosk-2-aaaaaaaaaaaa"
NAMES = [f"sim-{number}" for number in range(4000)]
FIVE = Tolerance("5", 1)


def fates(odds: Odds, seed: int = 1, release: str = RELEASE) -> dict[str, Fate]:
    return {name: fate(odds, seed, name, release) for name in NAMES}


def test_the_same_seed_ends_the_same_way_and_another_does_not() -> None:
    odds = Odds(fail=0.1, slow=0.1, offline=0.1)
    assert fates(odds) == fates(odds)
    assert fates(odds) != fates(odds, seed=2)
    assert fates(odds) != fates(odds, release="kiosk-3-aaaaaaaaaaaa")


def test_shares_are_what_was_asked_for_and_independent() -> None:
    drawn = fates(Odds(fail=0.1, slow=0.2, offline=0.3)).values()
    for share, count in (
        (0.1, sum(f.fails for f in drawn)),
        (0.2, sum(f.slow for f in drawn)),
        (0.3, sum(f.goes_dark for f in drawn)),
        (0.02, sum(f.fails and f.slow for f in drawn)),
        (0.06, sum(f.slow and f.goes_dark for f in drawn)),
    ):
        assert count / len(NAMES) == pytest.approx(share, abs=0.02)


def test_a_larger_share_only_adds_devices() -> None:
    few, many = fates(Odds(fail=0.05)), fates(Odds(fail=0.2))
    assert {name for name in NAMES if few[name].fails} < {name for name in NAMES if many[name].fails}


def test_nothing_and_everything_are_exact() -> None:
    assert not any(f.fails or f.slow or f.goes_dark for f in fates(Odds()).values())
    assert all(f.fails and f.slow and f.goes_dark for f in fates(Odds(fail=1, slow=1, offline=1)).values())


def test_steps_take_half_to_one_and_a_half_of_what_was_asked_and_slow_ones_ten_times_that() -> None:
    for factor, odds in ((1.0, Odds(step_seconds=2)), (SLOW_FACTOR, Odds(step_seconds=2, slow=1))):
        times = [time / factor for f in fates(odds).values() for time in f[3:]]
        assert 1 <= min(times) < 1.1
        assert 2.9 < max(times) < 3


def outcomes(pattern: str) -> list[Outcome]:
    """`.` is a success, `x` a failure, one a second."""
    return [Outcome(float(at), f"sim-{at}", mark == "x") for at, mark in enumerate(pattern, 1)]


@pytest.mark.parametrize(
    ("pattern", "began", "bears", "expected"),
    [
        pytest.param("", 0, FIVE, None, id="nothing happened"),
        pytest.param("." * 50, 50, FIVE, None, id="no failure"),
        pytest.param("x", 50, FIVE, Crossing(1.0, 1, 1), id="the first failure, when one report is enough"),
        pytest.param("x", 50, Tolerance("5", 3), None, id="too few reports"),
        pytest.param(
            "x..", 50, Tolerance("5", 3), Crossing(3.0, 1, 3), id="a success brings the number of reports"
        ),
        pytest.param(
            "x", 1, Tolerance("5", 3), Crossing(1.0, 1, 1), id="no more than began can be asked for"
        ),
        pytest.param("." * 19 + "x", 50, FIVE, None, id="exactly the threshold is borne"),
        pytest.param("." * 19 + "xx", 50, FIVE, Crossing(21.0, 2, 21), id="one more is not"),
        pytest.param("x", 50, Tolerance("100", 1), None, id="a policy that bears everything"),
    ],
)
def test_the_report_that_crosses_the_threshold(
    pattern: str, began: int, bears: Tolerance, expected: Crossing | None
) -> None:
    assert crossing([0.5] * began, reversed(outcomes(pattern)), bears) == expected


def result(state: Any, **changes: Any) -> UpdateResult:
    fields: dict[str, Any] = {"boot": (1, "0" * 8), "at": 1, "spool": "00000000", "n": 1, "segment": "canary"}
    return UpdateResult(**{**fields, "release": RELEASE, "state": state, **changes})


def figures(tally: Tally, bears: Tolerance = FIVE) -> dict[str, Any]:
    (rollout,) = report.summary([], tally, bears)["rollouts"]
    return dict(rollout)


def test_a_halt_is_dated_from_the_report_that_crossed_and_parts_who_began_when() -> None:
    tally = Tally()
    for number, at in enumerate([1.0, 2.0, 3.0, 7.2]):
        tally.began(f"sim-{number}", "canary", RELEASE, at)
    tally.reported("sim-0", result("committed"), 6.0)
    tally.reported("sim-1", result("rolled_back"), 7.0)
    for number, at in enumerate([7.1, 7.3, 7.25, 7.4]):
        tally.offered(f"sim-{number}", "canary", RELEASE, at, paused=True)
    tally.began("sim-4", "canary", RELEASE, 7.5)
    found = figures(tally)
    assert (found["began"], found["committed"], found["failed"]) == (5, 1, 1)
    assert found["halt"] == {
        "heard_by": 4,
        "began_while_paused": 0,
        "crossed_monotonic": 7.0,
        "failed_at_crossing": 1,
        "ended_at_crossing": 2,
        "first_heard_ms": 100.0,
        "last_heard_ms": 400.0,
        "began_before_crossing": 3,
        "began_until_heard": 2,
    }
    tally.began("sim-3", "canary", RELEASE, 8.0)
    assert figures(tally)["halt"]["began_while_paused"] == 1, (
        "a device that had heard of the pause began again"
    )


def test_a_pause_before_any_threshold_has_no_crossing() -> None:
    tally = Tally()
    tally.offered("sim-0", "canary", RELEASE, 1.0, paused=True)
    tally.offered("sim-0", "canary", RELEASE, 2.0, paused=False)
    tally.began("sim-0", "canary", RELEASE, 3.0)
    assert figures(tally)["halt"] == {"heard_by": 1, "began_while_paused": 0}


def test_what_was_stopped_in_time_is_no_failure_and_a_report_counts_once() -> None:
    tally = Tally()
    for _ in range(2):
        tally.reported("sim-0", result("failed", cause="ordered"), 1.0)
        tally.reported("sim-1", result("failed"), 1.0)
        tally.reported("sim-2", result("downloading"), 1.0)
    tally.began("sim-0", "canary", RELEASE, 0.5)
    found = figures(tally)
    assert (found["stopped"], found["failed"], found["committed"]) == (1, 1, 0)


def test_the_text_has_every_figure() -> None:
    tally = Tally()
    tally.began("sim-1", "canary", RELEASE, 1.0)
    tally.reported("sim-1", result("rolled_back"), 2.0)
    tally.offered("sim-0", "canary", RELEASE, 2.125, paused=True)
    seen = [
        Seen(True, "kiosk-1-aaaaaaaaaaaa", None, "paused"),
        Seen(False, None, (RELEASE, "rolled_back"), "failed_here_before"),
    ]
    said = report.text({**report.summary(seen, tally, FIVE), "memory_kb_per_device": 99})
    assert said.splitlines() == [
        "2 devices, 1 connected at the end; 99 KiB each",
        "running         1  kiosk-1-aaaaaaaaaaaa",
        "running         1  nothing",
        "attempt         1  kiosk-2-aaaaaaaaaaaa rolled_back",
        "verdict         1  paused",
        "rollout   kiosk-2-aaaaaaaaaaaa in canary: 1 began, 0 committed, 1 failed, 0 were stopped in time, 0 went dark",
        "halt      threshold crossed by 1 failures of 1; the pause was heard 125 ms after that report, by the last of "
        "1 devices after 125 ms; 1 had begun, 0 more began before it reached them, 0 devices began after they had "
        "heard of it",
    ]


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    options.add(parser.add_subparsers())
    return parser.parse_args(["simulate", "--devices", "5", *words])


def test_percentages_need_their_sign() -> None:
    chosen = parse("--fail", "8%", "--slow", "0.5%", "--threshold", "100%")
    assert (chosen.fail, chosen.slow, chosen.threshold) == (0.08, 0.005, "100%")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["--fail", "0.08"], "write it like 3%", id="a fraction"),
        pytest.param(["--fail", "101%"], "write it like 3%", id="more than all"),
        pytest.param(["--threshold=-1%"], "write it like 3%", id="below nothing"),
        pytest.param(["--offline", "nan%"], "write it like 3%", id="no number"),
        pytest.param(["--fail", "1_0%"], "write it like 3%", id="what only Python reads as ten"),
        pytest.param(["--slow", "\uff13%"], "write it like 3%", id="a digit that looks wide"),
        pytest.param(["--slow", "3"], "write it like 3%", id="no sign"),
        pytest.param(["--seconds-per-step", "0"], "not a number of seconds above 0", id="no time"),
        pytest.param(["--devices", "0"], "not a whole number from 1", id="no devices"),
        pytest.param(["--seed", "-3"], "not a whole number from 0", id="a negative seed"),
    ],
)
def test_an_option_that_is_wrong_is_usage(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(*words)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_how_long_devices_stay_dark_needs_the_share_that_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["simulate", "--devices", "3", "--offline-seconds", "5"])
    assert caught.value.code == 2
    assert "say with --offline which share" in capsys.readouterr().err


def test_devices_that_are_not_enrolled_need_hub_and_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "--devices", "3", "--state", str(tmp_path / "fleet")]) == 3
    assert "3 of 3 devices are not enrolled yet; give --hub and --token" in capsys.readouterr().err


def test_a_hub_that_does_not_answer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    token = "fh1.g6ZzZWNyZXTEIA" + "A" * 300
    code = main(["simulate", "--devices", "2", "--hub", "http://127.0.0.1:1", "--token", token])
    assert code in (1, 4)
    assert capsys.readouterr().err.startswith("flaghoist-edge: ")


def test_a_prefix_that_makes_no_device_id_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--devices", "1", "--prefix", "Sim_"]) == 1
    assert "'Sim_0' is not a device id" in capsys.readouterr().err


def test_more_devices_than_open_files_are_refused_with_the_number_that_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (1024, 4256))
    assert main(["simulate", "--devices", "5000"]) == 3
    assert "simulate at most 2000" in capsys.readouterr().err


def test_one_run_at_a_time_may_hold_a_fleet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "devices").mkdir()
    lock = resident.hold(tmp_path / "lock")
    try:
        assert main(["simulate", "--devices", "1", "--state", str(tmp_path)]) == 3
    finally:
        os.close(lock)
    assert "another flaghoist-edge works in" in capsys.readouterr().err


def test_a_run_that_is_ended_while_it_enrols_leaves_no_fleet_behind(tmp_path: Path) -> None:
    """A fleet that is not kept stands in memory, where nothing would ever clear it up."""
    token = enrolment.Token(b"s" * 32, "a" * 64, "b" * 64).text()
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        code = f"import edge.simulate.command as c, pathlib; c.IN_MEMORY = pathlib.Path({str(tmp_path)!r})\n"
        code += "import edge.main, sys; sys.exit(edge.main.main(sys.argv[1:]))"
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", code, "simulate", "--devices", "2"),
                *("--hub", f"http://127.0.0.1:{port}", "--token", token),
            ],
        )
        try:
            deaf.settimeout(60)
            caller, _ = deaf.accept()  # it has begun to enrol
            with caller:
                assert list(tmp_path.iterdir())
                process.send_signal(signal.SIGTERM)
                caller.close()
                deaf.close()
                assert process.wait(timeout=60) == 130
        finally:
            process.kill()
            process.wait()
    assert list(tmp_path.iterdir()) == []


def test_figures_are_plain_json() -> None:
    tally = Tally()
    tally.offered("sim-0", "canary", RELEASE, 2.125, paused=True)
    assert json.loads(json.dumps(report.summary([], tally, FIVE)))["rollouts"][0]["halt"]["heard_by"] == 1
