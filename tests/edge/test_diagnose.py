"""What a technician is told: every check in each of its answers, with a way out, with and without a network."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from edge.config import Paths
from edge.diagnose import command, finding, machine, release
from edge.diagnose.catalogue import CHECKS
from edge.diagnose.finding import Finding
from edge.diagnose.machine import Readings
from edge.identity import certificate
from edge.machine.clock import SystemClock
from edge.machine.starts import Watch
from edge.main import main
from edge.storage import memory, outbox, records, state
from edge.storage.linknote import LinkNote
from edge.storage.state import Pending
from hub.identity.ca import open_authorities
from tests.edge.patient import Patient, everything
from tests.edge.rig import Rig, exec_release, stop
from tests.edge.world import (
    DESIRED_TOPIC,
    FLEET,
    MANIFEST_TOPIC,
    NOW,
    ROOT_TOPIC,
    Source,
    build,
    wait_until,
)
from tests.topics import kit
from topics import codec
from topics.documents import RootChain
from topics.messages import Drift, Probes

YEAR = 365 * 86_400


def named(findings: list[Finding], check: str) -> Finding:
    return next(each for each in findings if each.check == check)


@pytest.fixture
def patient(tmp_path: Path, source: Source) -> Iterator[Patient]:
    made = Patient(tmp_path, source)
    yield made
    made.close()


def test_a_device_that_is_well_but_cut_off_fails_only_on_the_way_to_its_broker(patient: Patient) -> None:
    before = everything(patient.paths.root)
    findings = patient.ask()
    assert [each.check for each in findings if each.level == "fail"] == ["broker TCP"]
    steps = [each.level for each in findings if each.check.startswith("broker ")]
    assert steps == ["pass", "fail", "skip", "skip", "skip", "skip", "skip"]
    after = everything(patient.paths.root)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {"hook.log"}, "only the hook that was asked wrote something"


def test_every_check_is_told_in_order_whatever_the_device_is(patient: Patient, tmp_path: Path) -> None:
    assert len(CHECKS) >= 20
    for paths in (patient.paths, Paths(tmp_path / "none")):
        assert [each.check for each in command.gather(paths, SystemClock())] == list(CHECKS)


@pytest.mark.heavy
def test_every_check_is_really_made_on_a_device_that_has_everything(rig: Rig, source: Source) -> None:
    """No check of the list is one that is only ever skipped."""
    source.files["/health/live"] = b"{}"
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    alone = {each["check"] for each in told(rig) if each["level"] != "skip"}
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(source.add(exec_release(7))))
    process = rig.run()
    wait_until(lambda: state.load(rig.paths).running is not None)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(source.add(exec_release(8))))
    wait_until(lambda: state.load(rig.paths).previous is not None)
    beside = {each["check"] for each in told(rig) if each["level"] != "skip"}
    stop(process)
    assert set(CHECKS) - alone - beside == set()


def test_every_warning_and_failure_says_what_to_do(patient: Patient) -> None:
    for each in patient.ask():
        if each.level in ("warn", "fail"):
            assert each.remedy.endswith("."), each


BAD = build(8, {"files/fail-activate": b""})
FAULTS: list[tuple[str, str, str, Callable[[Patient], Any], str]] = [
    ("permissions", "permissions", "warn", lambda p: p.paths.root.chmod(0o755), "mode 755"),
    ("settings", "settings", "fail", lambda p: (p.paths.root / "agent.json").write_text("{"), "agent.json"),
    (
        "a zone of nowhere",
        "settings",
        "warn",
        lambda p: (p.paths.root / "agent.json").write_text('{"zone": "Mars/Base"}'),
        "no time zone 'Mars/Base'",
    ),
    ("variables", "variables", "fail", lambda p: (p.paths.root / "device.env").write_text("x"), "line 1"),
    ("old certificate", "certificate", "fail", lambda p: p.certify(NOW // 1000 - 20 * YEAR), "expired on"),
    ("future certificate", "certificate", "fail", lambda p: p.certify(NOW // 1000 + 20 * YEAR), "valid from"),
    (
        "no certificate",
        "certificate",
        "fail",
        lambda p: (p.paths.identity / "cert.pem").unlink(),
        "cannot be read",
    ),
    (
        "torn state",
        "state file",
        "warn",
        lambda p: p.paths.state.write_bytes(b"x"),
        "generation before stands in",
    ),
    (
        "torn memory",
        "memory file",
        "warn",
        lambda p: p.paths.memory.write_bytes(b""),
        "generation before stands in",
    ),
    (
        "a changed file",
        "files",
        "fail",
        lambda p: (p.paths.release(build(7).id) / "files/app.txt").write_text("x"),
        "not as signed",
    ),
    ("current elsewhere", "current", "fail", lambda p: p.paths.current.unlink(), "points elsewhere"),
    ("no hook", "hook", "fail", lambda p: shutil.rmtree(p.paths.hooks), "no hook 'fake'"),
    (
        "service gone",
        "service",
        "fail",
        lambda p: (p.paths.root / "fail-probe").touch(),
        "this device cannot probe",
    ),
    (
        "safe mode",
        "safe mode",
        "fail",
        lambda p: state.save(p.paths, records.changed(p.state, safe_mode="own-1-2")),
        "since own-1-2",
    ),
    (
        "failed release",
        "failed releases",
        "warn",
        lambda p: state.save(p.paths, state.with_failed(p.state, "kiosk-9-0123456789ab")),
        "kiosk-9-0123456789ab",
    ),
    (
        "service error",
        "last error",
        "warn",
        lambda p: state.save(p.paths, records.changed(p.state, service="port in use")),
        "port in use",
    ),
    (
        "refused documents",
        "refused documents",
        "warn",
        lambda p: memory.save(p.paths, memory.with_refusal(p.memory, "a")),
        "1 were refused",
    ),
    ("no agent", "agent", "warn", lambda p: None, "not running"),
    ("never in touch", "last contact", "warn", lambda p: None, "none is on record"),
    (
        "long out of touch",
        "last contact",
        "warn",
        lambda p: touched(p, NOW // 1000 - 3 * 86_400),
        "3 days ago",
    ),
    ("in touch", "last contact", "pass", lambda p: touched(p, NOW // 1000 - 60), "min ago"),
    ("starts in a row", "starts", "warn", lambda p: starts_in_a_row(p, 4), "4 in a row"),
    ("starts unread", "starts", "fail", lambda p: (p.paths.root / "starts").mkdir(), "starts cannot be read"),
    ("an old report", "oldest report", "warn", lambda p: report_of(p, NOW // 1000 - 2 * 86_400), "drift of"),
    ("a new report", "oldest report", "pass", lambda p: report_of(p, NOW // 1000), "drift of"),
    ("nothing new", "next update", "pass", lambda p: None, f"already_installed ({build(7).id})"),
    ("a bad release", "next update", "warn", lambda p: p.offer(BAD), f"failed_here_before ({BAD.id})"),
    ("HTTPS by setting", "transport", "pass", lambda p: https(p), "HTTPS, as the setting"),
    ("no state to read", "release", "skip", lambda p: newer(p), "no state that can be read"),
]


def touched(patient: Patient, at: int) -> None:
    LinkNote(patient.paths).write(at, connected=True, reason="")


def starts_in_a_row(patient: Patient, count: int) -> None:
    for boot in range(count):
        Watch(patient.paths, patient.settings).begin(str(boot), 0.0, under_way=False)


def report_of(patient: Patient, at: int) -> None:
    patient.receipt_all()
    report = Drift(boot=(1, "00000000"), at=at, spool="00000000", n=1)
    patient.spool.append(
        "test", 1, "drift", lambda spool, n: codec.encode(records.changed(report, spool=spool, n=n))
    )


def https(patient: Patient) -> None:
    (patient.paths.root / "agent.json").write_text('{"transport": "https"}')


def newer(patient: Patient) -> None:
    patient.paths.state.write_bytes(b"FHR9" + patient.paths.state.read_bytes()[4:])


@pytest.mark.parametrize(
    ("check", "level", "harm", "words"),
    [pytest.param(check, level, harm, words, id=name) for name, check, level, harm, words in FAULTS],
)
def test_what_is_wrong_is_found(
    patient: Patient, check: str, level: str, harm: Callable[[Patient], Any], words: str
) -> None:
    harm(patient)
    found = named(patient.ask(), check)
    assert (found.level, words in found.detail) == (level, True), found


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem"])
def test_a_certificate_that_is_none_fails_its_step_and_the_rest_is_looked_at(
    patient: Patient, name: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as broker:
        patient.device = records.changed(patient.device, mqtt_port=broker.getsockname()[1])
        patient.certify(NOW // 1000)
        (patient.paths.identity / name).write_bytes(b"")
        findings = patient.ask()
    assert [each.check for each in findings] == list(CHECKS)
    step = named(findings, "broker TLS")
    assert (step.level, "cannot be used" in step.detail) == ("fail", True), step


def test_a_rolled_back_update_is_a_warning_with_its_reason(patient: Patient) -> None:
    patient.offer(build(8, {"files/fail-activate": b""}))
    found = named(patient.ask(), "last update")
    assert found.level == "warn" and "rolled_back (attempt 1): no activate today" in found.detail


def test_a_device_that_is_not_enrolled_is_looked_at_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", "--json", "--state", str(tmp_path / "none")]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["verdict"] == "fail" and said["counts"]["skip"] > 20
    failing = [each for each in said["checks"] if each["level"] == "fail"]
    assert [each["check"] for each in failing] == ["identity"]
    assert "enrol" in failing[0]["remedy"]
    assert not (tmp_path / "none").exists()


def test_a_device_without_memory_and_anchor_is_looked_at_as_far_as_it_goes(patient: Patient) -> None:
    for path in (*patient.paths.root.glob("memory*"), *patient.paths.root.glob("anchor*")):
        path.unlink()
    findings = patient.ask()
    assert findings[-1].level == "skip" and "no memory" in findings[-1].detail
    assert named(findings, "certificate").level == "pass"


WELL = Readings(
    wall=NOW,
    newest=NOW,
    synchronised=True,
    probes=Probes(disk_free=2**33, memory_used=0.3, cpu_load=0.2, temperature=41.0),
    inodes=10**6,
    read_only=False,
    throttled="",
)


def with_probes(**fields: Any) -> Readings:
    return Readings(**{**WELL_FIELDS, "probes": records.changed(WELL.probes, **fields)})


WELL_FIELDS = {name: getattr(WELL, name) for name in Readings.__slots__}


@pytest.mark.parametrize(
    ("readings", "check", "level", "words"),
    [
        pytest.param({"wall": 5_000}, "clock", "fail", "before this system existed", id="1970"),
        pytest.param({"newest": NOW + 3 * kit.DAY}, "clock", "fail", "a day behind", id="clock behind"),
        pytest.param({"synchronised": False}, "clock kept", "warn", "no time server", id="no time server"),
        pytest.param({"synchronised": None}, "clock kept", "pass", "does not tell", id="nothing told"),
        pytest.param({"inodes": 500}, "disk files", "warn", "500", id="few inodes"),
        pytest.param({"inodes": 5}, "disk files", "fail", "5", id="no inodes"),
        pytest.param({"read_only": True}, "disk health", "fail", "read-only", id="read-only disk"),
        pytest.param({"throttled": None}, "throttling", "pass", "no sensor", id="no throttling sensor"),
        pytest.param({"throttled": "slowed down"}, "throttling", "warn", "slowed down", id="throttled"),
        pytest.param({"disk_free": 2**20}, "disk space", "fail", "1 MiB", id="disk full"),
        pytest.param({"disk_free": 2**26}, "disk space", "warn", "64 MiB", id="disk nearly full"),
        pytest.param({"memory_used": 0.99}, "memory", "fail", "99%", id="memory full"),
        pytest.param({"memory_used": 0.95}, "memory", "warn", "95%", id="memory nearly full"),
        pytest.param({"cpu_load": 9.0}, "load", "warn", "9.00", id="busy"),
        pytest.param({"temperature": 90.0}, "temperature", "warn", "90", id="hot"),
        pytest.param({"temperature": 110.0}, "temperature", "fail", "110", id="too hot"),
        pytest.param({"temperature": None}, "temperature", "pass", "no sensor", id="no thermometer"),
    ],
)
def test_readings_and_what_they_mean(readings: dict[str, Any], check: str, level: str, words: str) -> None:
    known = {name for name in readings if name in WELL_FIELDS}
    now = Readings(**{**WELL_FIELDS, **readings}) if known else with_probes(**readings)
    findings = machine.check(now)
    found = named(findings, check)
    assert (found.level, words in found.detail) == (level, True), found
    assert {each.level for each in findings if each.check != check} == {"pass"}


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        pytest.param("soc/soc:firmware/get_throttled", "0\n", "", id="Raspberry Pi, well"),
        pytest.param(
            "soc/soc:firmware/get_throttled",
            "50005\n",
            "too little voltage now, slowed down now",
            id="weak supply",
        ),
        pytest.param("none", "", None, id="no sensor"),
    ],
)
def test_a_board_tells_that_it_is_slowed_down(
    tmp_path: Path, path: str, text: str, found: str | None
) -> None:
    place = tmp_path / "sys/devices/platform" / path
    place.parent.mkdir(parents=True)
    place.write_text(text)
    read = machine.read(tmp_path, wall=NOW, newest=0, system=tmp_path).throttled
    assert read == found or (found and read is not None and read.startswith(found))


def test_the_dates_of_a_certificate_are_those_that_were_issued(tmp_path: Path) -> None:
    authority = open_authorities(tmp_path, FLEET, now=NOW // 1000).device
    for years in (0, 40):  # from 2050 on dates are written in another way
        pem = authority.issue_device(bytes(32), "a", now=NOW // 1000 + years * YEAR, days=30)
        begin, end = certificate.dates(certificate.ders(pem)[0])
        assert begin <= datetime.fromtimestamp(NOW // 1000 + years * YEAR, UTC) < end
        assert 29 <= (end - begin).days <= 31


@pytest.mark.parametrize("junk", [b"", b"\x30", b"\x30\x82\xff\xff", b"\x30\x02\x30\x00", b"x" * 40])
def test_what_is_no_certificate_has_no_dates(junk: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        certificate.dates(junk)


def test_the_table_shows_remedies_below_and_sums_up() -> None:
    findings = [
        finding.passed("clock", "12:00"),
        finding.failed("disk space", "0 MiB free", "Make room."),
        finding.skipped("hook", "no state"),
    ]
    assert finding.text(findings).splitlines() == [
        "pass  clock       12:00",
        "fail  disk space  0 MiB free",
        "                  → Make room.",
        "skip  hook        no state",
        "3 checks: 1 pass, 0 warn, 1 fail, 1 skipped",
    ]
    assert finding.verdict(findings[:1]) == "pass"
    assert finding.verdict([findings[0], finding.warned("a", "b", "c")]) == "warn"


def test_the_way_to_a_real_broker_step_by_step(rig: Rig, source: Source) -> None:
    """The agent is not thrown out when it runs; when it does not, the way is walked to its end."""
    source.files["/health/live"] = b"{}"
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(ROOT_TOPIC, codec.encode(RootChain([rig.box.memory.trust.root_bytes])))
    alone = steps(rig)
    assert [level for _, level in alone] == ["pass"] * 8
    process = rig.run()
    assert rig.presence().state == "online"
    beside = steps(rig)
    assert [level for _, level in beside] == ["pass"] * 3 + ["skip"] * 4 + ["pass"]
    said = {each["check"]: each for each in told(rig)}
    assert said["agent"]["detail"] == "running"
    assert said["connection"]["level"] == "pass"
    stop(process)
    # Had one thrown the other out, there would be a second `online` before the goodbye.
    assert rig.presence().state == "offline"


def told(rig: Rig) -> list[dict[str, str]]:
    return json.loads(rig.ask("diagnose", "--json").stdout)["checks"]  # type: ignore[no-any-return]


def steps(rig: Rig) -> list[tuple[str, str]]:
    return [
        (each["check"], each["level"])
        for each in told(rig)
        if each["check"].startswith("broker ") or each["check"] == "hub HTTP"
    ]


def test_a_revoked_device_is_told_at_the_step_that_refuses_it(rig: Rig) -> None:
    certificate = x509.load_pem_x509_certificate(rig.files.certificate.read_bytes())
    rig.broker.reload([f"{certificate.serial_number:x}"])

    def refused() -> bool:
        return dict(steps(rig))["broker lets in"] == "fail"

    wait_until(refused)


def test_a_broker_of_another_ca_fails_at_tls(rig: Rig, tmp_path: Path) -> None:
    other = open_authorities(tmp_path / "other", FLEET, now=NOW // 1000).device
    (rig.paths.identity / "ca.pem").write_text(other.pem)
    found = dict(steps(rig))
    assert (found["broker TCP"], found["broker TLS"], found["broker lets in"]) == ("pass", "fail", "skip")


def test_the_running_agent_says_why_it_is_not_connected(rig: Rig) -> None:
    rig.broker.stop()
    process = rig.run()

    def said() -> bool:
        return any(
            each["check"] == "connection"
            and each["level"] == "fail"
            and "not connected since" in each["detail"]
            for each in told(rig)
        )

    wait_until(said)
    stop(process)


def test_reports_that_wait_are_counted(patient: Patient) -> None:
    patient.receipt_all()
    for serial in range(1, 4):
        patient.spool.append("x", serial, "drift", lambda _spool, _n: b"x")
    assert release.reports(patient.paths, patient.memory, patient.state).detail.startswith("3 of 3 bytes, of")


def test_reports_that_leave_no_room_for_more_hold_updates_up(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_BYTES", 3)
    full = records.changed(patient.state, outbox=[Pending(1, "drift", b"long")])
    found = release.reports(patient.paths, patient.memory, full)
    assert (found.level, found.detail) == ("fail", "2, and no room for more")
