"""Drift: what is found, what is reported of it, when it is looked for, and how it is put right."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.drift import files as drift
from edge.drift import inspection
from edge.drift.files import Found
from edge.main import main
from edge.storage import records, state
from edge.storage.state import Installed, State
from tests.edge.patient import Patient
from tests.edge.world import DESIRED_TOPIC, NOW, QUICK, Box, Source, build, tree
from tests.topics import kit
from topics import codec
from topics.bundle import FileEntry
from topics.documents import Command
from topics.messages import Drift, DriftItem

RUNS = build(17, {"files/bin/tool": b"#!/bin/sh\n", "files/data/a.txt": b"a"})


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def patient(tmp_path: Path, source: Source) -> Any:
    made = Patient(tmp_path, source)
    made.offer(RUNS)
    assert made.state.running_id == RUNS.id
    yield made
    made.close()


@pytest.fixture
def running(box: Box) -> Box:
    box.offer(RUNS)
    assert box.state.running_id == RUNS.id
    return box


def folder(box: Box) -> Path:
    return box.paths.release(RUNS.id)


def differences(box: Box) -> list[tuple[str, str]]:
    return [(item.what, item.path) for item in drift.check(box.paths, RUNS.release)]


def swap_for_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def swap_for_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("x")


def make_socket(path: Path) -> None:
    where = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{where}/{path.name}")
    finally:
        os.close(where)


HARMS: list[tuple[str, Callable[[Path], Any], list[tuple[str, str]]]] = [
    ("nothing", lambda top: None, []),
    ("content", lambda top: (top / "files/app.txt").write_text("app x"), [("hash", "files/app.txt")]),
    ("mode", lambda top: (top / "files/bin/tool").chmod(0o644), [("mode", "files/bin/tool")]),
    ("setuid", lambda top: (top / "files/bin/tool").chmod(0o4755), [("mode", "files/bin/tool")]),
    ("owner", lambda top: os.chown(top / "files/app.txt", 65534, -1), [("owner", "files/app.txt")]),
    ("missing", lambda top: (top / "files/data/a.txt").unlink(), [("missing", "files/data/a.txt")]),
    ("extra", lambda top: (top / "files/core").write_bytes(b"x"), [("extra", "files/core")]),
    ("extra link", lambda top: (top / "files/here").symlink_to("/"), [("extra", "files/here")]),
    ("socket", lambda top: make_socket(top / "files/s"), [("extra", "files/s")]),
    (
        "link in place",
        lambda top: swap_for_link(top / "files/app.txt"),
        [("hash", "files/app.txt"), ("extra", "files/elsewhere")],
    ),
    (
        "folder in place",
        lambda top: swap_for_folder(top / "files/app.txt"),
        [("missing", "files/app.txt"), ("extra", "files/app.txt/inside")],
    ),
    (
        "name that is no text",
        lambda top: Path(os.fsdecode(os.fsencode(top) + b"/\xff")).write_bytes(b""),
        [("extra", "�")],
    ),
]


@pytest.mark.parametrize(("harm", "found"), [pytest.param(*row[1:], id=row[0]) for row in HARMS])
def test_every_kind_of_difference_is_found(
    running: Box, harm: Callable[[Path], Any], found: list[tuple[str, str]]
) -> None:
    harm(folder(running))
    assert differences(running) == found


def order(box: Box, kind: Any) -> None:
    """Order an inspection and let it happen."""
    number = box.numbers.next()
    command = Command(id=f"c-{number}", kind=kind, expires_at=NOW + kit.DAY)
    box.hear(kit.signed_desired(number, commands=[command]), DESIRED_TOPIC)


def reports(box: Box) -> list[Drift]:
    return [
        codec.decode(entry.body, Drift, limit=65536)
        for entry in box.spool.reports
        if entry.channel == "drift"
    ]


def answers(box: Box) -> list[tuple[bool, str]]:
    return [(result.ok, result.detail) for result in box.link.of("command-result")]


@pytest.mark.parametrize(
    ("harm", "found"),
    [pytest.param(*row[1:], id=row[0]) for row in HARMS if row[0] != "name that is no text"],
)
def test_what_is_repaired_is_byte_for_byte_what_was_signed(
    running: Box, source: Source, harm: Callable[[Path], Any], found: list[tuple[str, str]]
) -> None:
    before = tree(folder(running))
    for data in before.values():
        digest = sha(data)
        source.files[f"/artifacts/kiosk/{RUNS.id}/blobs/{digest}"] = data
    harm(folder(running))
    order(running, "repair-drift")
    assert tree(folder(running)) == before
    assert differences(running) == []
    (report,) = reports(running)
    assert [(item.what, item.path) for item in report.items] == found
    assert report.repaired is bool(found)
    assert answers(running) == [(True, "repair begins, its report follows")]


def test_a_release_that_was_put_right_is_started_again(running: Box, source: Source) -> None:
    data = (folder(running) / "files/app.txt").read_bytes()
    digest = sha(data)
    source.files[f"/artifacts/kiosk/{RUNS.id}/blobs/{digest}"] = data
    (folder(running) / "files/app.txt").write_bytes(b"rotten")
    before = len(running.calls())
    order(running, "repair-drift")
    assert running.calls()[before:] == [f"rollback {RUNS.id}"]
    (folder(running) / "files/bin/tool").chmod(0o600)
    order(running, "repair-drift")
    assert running.calls()[before + 1 :] == [], "a mode is put right beneath the running release"


def test_files_come_from_the_release_before_without_a_network(box: Box, source: Source) -> None:
    box.offer(build(6, {"files/shared": b"s" * 5000}))
    newer = build(7, {"files/shared": b"s" * 5000})
    box.offer(newer)
    source.archives.clear()
    (box.paths.release(newer.id) / "files/shared").unlink()
    order(box, "repair-drift")
    assert (box.paths.release(newer.id) / "files/shared").read_bytes() == b"s" * 5000
    assert reports(box)[-1].repaired


def test_without_single_files_the_whole_bundle_is_fetched(running: Box, source: Source) -> None:
    """Sources that have no files one by one: a signed URL, a mirror of bundles only."""
    before = tree(folder(running))
    (folder(running) / "files/app.txt").write_bytes(b"rotten")
    (folder(running) / "files/bin/tool").unlink()
    order(running, "repair-drift")
    assert tree(folder(running)) == before
    assert reports(running)[-1].repaired
    bundles = [request for request in source.requests if request["path"].endswith("/bundle")]
    assert len(bundles) == 2, "one to install, one to repair"
    assert not list(running.paths.releases.glob(".*")), "nothing is left of it"


def test_the_checksums_document_is_made_anew_from_the_bundle(running: Box, source: Source) -> None:
    document = running.paths.checksums(RUNS.id)
    signed = document.read_bytes()
    document.unlink()
    (folder(running) / "files/app.txt").write_bytes(b"rotten")
    order(running, "repair-drift")
    assert document.read_bytes() == signed
    assert differences(running) == []
    assert reports(running)[-1].repaired


def test_a_bundle_that_is_not_the_signed_one_repairs_nothing(running: Box, source: Source) -> None:
    source.archives[RUNS.id] = build(17, {"files/app.txt": b"another"}).archive
    (folder(running) / "files/app.txt").write_bytes(b"rotten")
    order(running, "repair-drift")
    (report,) = reports(running)
    assert (report.repaired, [item.what for item in report.items]) == (False, ["hash"])
    assert (folder(running) / "files/app.txt").read_bytes() == b"rotten"


TELLS = """#!/bin/sh
echo "$1 $FLAGHOIST_RELEASE_ID" >> "$FLAGHOIST_STATE_DIR/hook.log"
[ "$1" != activate ] || rm -f "$FLAGHOIST_STATE_DIR/stopped"
if [ "$1" = probe ] && [ -n "$FLAGHOIST_ITEMS" ] && [ -e "$FLAGHOIST_STATE_DIR/stopped" ]; then
  echo '{"name": "web", "expected": "running", "found": "exited (1)"}' >> "$FLAGHOIST_ITEMS"
fi
"""
"""A hook whose probe is content, and which tells of a service when it is asked."""


def test_services_are_told_of_and_started_again_by_a_repair(running: Box) -> None:
    running.hook("fake", TELLS)
    (running.paths.root / "stopped").touch()
    order(running, "check-drift")
    (item,) = reports(running)[-1].items
    assert (item.what, item.path, item.expected, item.found) == ("service", "web", "running", "exited (1)")
    before = len(running.calls())
    order(running, "repair-drift")
    assert reports(running)[-1].repaired
    assert running.calls()[before:] == [f"activate {RUNS.id}"]


def test_what_nobody_has_stays_reported_as_it_is(running: Box, source: Source) -> None:
    source.archives.clear()
    (folder(running) / "files/app.txt").unlink()
    order(running, "repair-drift")
    (report,) = reports(running)
    assert not report.repaired
    assert [(item.what, item.path) for item in report.items] == [("missing", "files/app.txt")]


def test_the_checksums_document_is_guarded_too(running: Box, source: Source) -> None:
    document = running.paths.checksums(RUNS.id)
    signed = document.read_bytes()
    document.write_bytes(signed.replace(b"420", b"493"))
    order(running, "check-drift")
    (item,) = reports(running)[-1].items
    assert (item.what, item.path) == ("hash", f"meta/{RUNS.id}.checksums")
    source.files[f"/artifacts/kiosk/{RUNS.id}/checksums"] = signed
    order(running, "repair-drift")
    assert document.read_bytes() == signed
    assert reports(running)[-1].repaired


def test_a_service_that_does_not_run_is_drift(running: Box) -> None:
    for verb in ("probe", "activate"):
        (running.paths.root / f"fail-{verb}").touch()
    order(running, "check-drift")
    (item,) = reports(running)[-1].items
    assert (item.what, item.path, item.found) == ("service", "fake", "this device cannot probe")


@pytest.mark.parametrize("kind", ["check-drift", "repair-drift"])
def test_without_a_release_there_is_nothing_to_inspect(box: Box, kind: str) -> None:
    order(box, kind)
    assert answers(box) == [(False, "nothing is installed")]
    assert reports(box) == []


def test_in_safe_mode_nothing_is_inspected(running: Box) -> None:
    running.agent.change_state(records.changed(running.state, safe_mode="own-1-1", safe_mode_applied=True))
    order(running, "check-drift")
    assert answers(running) == [(False, "the device is in safe mode")]


def come_due(box: Box) -> None:
    """Let the time of the next inspection be now, and the agent look."""
    box.agent.change_state(records.changed(box.state, inspect_at=1))
    box.agent.check_now()
    box.settle()


def test_by_itself_only_what_is_news_is_reported(running: Box) -> None:
    come_due(running)
    assert reports(running) == [], "no drift is no news"
    extra = folder(running) / "files/core"
    extra.touch()
    come_due(running)
    come_due(running)
    assert [(each.items[0].what, each.repaired) for each in reports(running)] == [("extra", False)]
    extra.unlink()
    come_due(running)
    assert [each.items for each in reports(running)][1:] == [[]], "that it is gone is news"


def test_the_next_inspection_is_planned_when_a_release_runs(running: Box) -> None:
    now = NOW // 1000
    assert now < running.state.inspect_at <= now + QUICK.drift_seconds + 600


DAY = 86_400


@pytest.mark.parametrize(
    ("fields", "now", "interval", "due"),
    [
        pytest.param({}, 1000, DAY, False, id="not planned yet"),
        pytest.param({"inspect_at": 1001}, 1000, DAY, False, id="not yet"),
        pytest.param({"inspect_at": 1000}, 1000, DAY, True, id="now"),
        pytest.param({"inspect_at": 1000}, 1000, 0, False, id="switched off"),
        pytest.param({"inspect": "check"}, 1000, 0, True, id="ordered though switched off"),
        pytest.param({"inspect": "repair", "inspect_at": 9999}, 1000, DAY, True, id="ordered"),
        pytest.param({"inspect_at": 10 * DAY}, 1000, DAY, True, id="planned by a clock that ran ahead"),
    ],
)
def test_when_it_is_due(fields: dict[str, Any], now: int, interval: float, due: bool) -> None:
    assert inspection.is_due(State(id="00", **fields), now, interval) is due


@pytest.mark.parametrize(
    ("at", "share", "wait"),
    [
        pytest.param(0, 0.5, DAY // 2, id="the first is anywhere in the interval"),
        pytest.param(0, 0.0, 1, id="but never in the past"),
        pytest.param(1, 0.0, 0.75 * DAY, id="later ones come a quarter earlier at most"),
        pytest.param(1, 1.0, 1.25 * DAY, id="or a quarter later"),
    ],
)
def test_how_it_is_planned(at: int, share: float, wait: float) -> None:
    assert inspection.planned(State(id="00", inspect_at=at), 5000, DAY, share).inspect_at == 5000 + wait
    assert inspection.planned(State(id="00", inspect_at=at), 5000, 0, share).inspect_at == 0


def test_more_differences_than_a_report_holds_are_counted() -> None:
    base = State(id="00", running=Installed(RUNS.release), inspect="check")
    items = [DriftItem(path=f"files/{n}", what="extra") for n in range(300)]
    report = codec.decode(
        inspection.reported(base, items, items, 9, (1, "00000000")).outbox[0].body, Drift, limit=65536
    )
    assert (len(report.items), report.more, report.repaired) == (256, 44, False)


def test_comparing_names_one_difference_of_a_file_whose_content_is_another() -> None:
    entry = FileEntry("files/a", "0" * 64, 1, 0o644)
    wrong = Found("files/a", "file", "1" * 64, 0o777, 7)
    assert [item.what for item in drift.compare([entry], [wrong], 0)] == ["hash"]
    right = Found("files/a", "file", "0" * 64, 0o777, 7)
    assert [item.what for item in drift.compare([entry], [right], 0)] == ["mode", "owner"]
    lost = Found("files/a", "file", drift.UNREADABLE, 0o644, 0)
    assert [(item.what, item.found) for item in drift.compare([entry], [lost], 0)] == [("hash", "unreadable")]


def test_a_technician_compares_and_repairs(
    patient: Patient, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--state", str(patient.paths.root), "--hooks", str(patient.paths.hooks)]
    assert main(["drift", *where]) == 0
    assert capsys.readouterr().out == f"{RUNS.id}: as signed\n"
    path = folder(patient) / "files/data/a.txt"
    path.write_bytes(b"b")
    (folder(patient) / "files/core").touch()
    assert main(["drift", "--json", *where]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [(item["what"], item["path"]) for item in told["items"]] == [
        ("extra", "files/core"),
        ("hash", "files/data/a.txt"),
    ]
    archive = source.archives.pop(RUNS.id)
    assert main(["repair", *where]) == 1, "the hub is away"
    assert (
        "hash     files/data/a.txt: 3e23e8160039594a instead of ca978112ca1bbdca" in capsys.readouterr().out
    )
    source.archives[RUNS.id] = archive
    assert main(["repair", *where]) == 0
    assert path.read_bytes() == b"a"
    # The agent reports it when it starts.
    patient.start()
    patient.online()
    assert [each.repaired for each in reports(patient)] == [False, True]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"running": None}, "no release is installed here", id="nothing installed"),
        pytest.param({"safe_mode": "own-1-1"}, "the device is in safe mode", id="safe mode"),
    ],
)
def test_a_repair_that_cannot_be_is_refused(
    patient: Patient, change: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    state.save(patient.paths, msgspec.structs.replace(patient.state, **change))
    assert main(["repair", "--state", str(patient.paths.root)]) == 1
    assert reason in capsys.readouterr().err


def test_a_repair_beside_the_running_agent_is_refused(
    patient: Patient, capsys: pytest.CaptureFixture[str]
) -> None:
    from edge.resident import hold

    lock = hold(patient.paths.root / "lock")
    try:
        assert main(["repair", "--state", str(patient.paths.root)]) == 3
    finally:
        os.close(lock)
    assert "another flaghoist-edge works in" in capsys.readouterr().err
