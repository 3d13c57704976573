"""`status` says in a glance what runs, what is being tried, how it went, and the way out of trouble."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge import status
from edge.main import main
from edge.storage import records, state
from edge.storage.linknote import LinkNote
from tests.edge.patient import Patient
from tests.edge.world import MANIFEST_TOPIC, NOW, Source, build


@pytest.fixture
def patient(tmp_path: Path, source: Source) -> Iterator[Patient]:
    made = Patient(tmp_path, source)
    yield made
    made.close()


def lines(patient: Patient) -> dict[str, str]:
    told = status.text(status.gather(patient.paths)).splitlines()
    return {line[:10].strip(): line[10:] for line in told[1:]}


def safe_mode(entry: str) -> Callable[[Patient], Any]:
    return lambda p: state.save(p.paths, records.changed(p.state, safe_mode=entry))


def note(*, connected: bool, reason: str = "") -> Callable[[Patient], Any]:
    return lambda p: LinkNote(p.paths).write(NOW // 1000, connected=connected, reason=reason)


BAD = build(8, {"files/fail-activate": b""})

ROWS = [
    pytest.param(
        lambda p: None, "running", f"{build(7).id} (version 1.7.0) since 20", id="what runs, since when"
    ),
    pytest.param(
        lambda p: p.offer(build(8)), "running", f"; before it {build(7).id}", id="and what ran before"
    ),
    pytest.param(lambda p: None, "service", "ok", id="the service"),
    pytest.param(lambda p: None, "last", f"{build(7).id} committed (attempt 1) at 20", id="the last result"),
    pytest.param(lambda p: p.offer(BAD), "last", "rolled_back (attempt 1) at 20", id="a failure"),
    pytest.param(lambda p: p.offer(BAD), "last", ": no activate today", id="and its reason"),
    pytest.param(
        lambda p: p.offer(BAD), "failed", f"{BAD.id}; not taken again until redeploy", id="failed here"
    ),
    pytest.param(lambda p: p.offer(BAD), "next", f"failed_here_before ({BAD.id})", id="why nothing is next"),
    pytest.param(
        lambda p: p.agent.on_message(MANIFEST_TOPIC, p.manifest(build(8))),
        "trying",
        f"{build(8).id} downloading (attempt 1) at 20",
        id="what is being tried",
    ),
    pytest.param(safe_mode("own-1-2"), "safe mode", "flaghoist-edge leave-safe-mode", id="out of safe mode"),
    pytest.param(
        safe_mode("ordered-5"), "safe mode", "an operator ends it there", id="out of ordered safe mode"
    ),
    pytest.param(lambda p: None, "agent", ", not running", id="no agent"),
    pytest.param(lambda p: None, "hub", "never connected", id="never connected"),
    pytest.param(note(connected=True), "hub", "not connected; connected at 20", id="stopped while connected"),
    pytest.param(
        note(connected=False, reason="x"), "hub", "not connected; not reached at 20", id="not reached"
    ),
    pytest.param(lambda p: None, "reports", "2 waiting for the hub", id="reports"),
]


@pytest.mark.parametrize(("change", "line", "words"), ROWS)
def test_what_is_shown(patient: Patient, change: Callable[[Patient], Any], line: str, words: str) -> None:
    change(patient)
    assert words in lines(patient)[line], lines(patient)


def test_beside_a_running_agent_the_connection_is_its_word(patient: Patient) -> None:
    lock = os.open(patient.paths.root / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    note(connected=True)(patient)
    assert lines(patient)["hub"].startswith("connected since 20")
    note(connected=False, reason="timed out")(patient)
    assert lines(patient)["hub"].endswith("Z: timed out")
    assert lines(patient)["agent"].endswith(", running")
    os.close(lock)


def test_for_scripts(patient: Patient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json", "--state", str(patient.paths.root)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["running"], said["agent_running"], said["connection"]) == (build(7).id, False, None)
    assert said["update"]["state"] == "committed" and said["update"]["under_way"] is False
    assert said["next"] == f"already_installed ({build(7).id})"


def test_settings_that_cannot_be_used_do_not_hide_the_rest(patient: Patient) -> None:
    (patient.paths.root / "agent.json").write_text("{")
    shown = lines(patient)
    assert "agent.json cannot be used" in shown["next"] and shown["running"].startswith(build(7).id)
