"""What leaves a device for support holds none of its secrets; `diagnose` beside that: watched, and as any user."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.config import Paths
from edge.diagnose import disk, finding, scrub
from edge.diagnose.scrub import Scrubber
from edge.identity.identity import Identity
from edge.logs import book
from edge.main import main
from edge.storage.spool import Spool
from edge.verbs import diagnose
from tests.edge.patient import Patient, everything
from tests.edge.world import DEVICE, Source, build

SECRETS = {"DB_PASSWORD": 'p4ss"wörd', "API_KEY": "k-0815-secret", "URL_TOKEN": "a/b+c==", "PIN": "4711"}
SHOP = "shop-secret-of-a-file"
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJzaG9wLTEyIn0.c2lnbmF0dXJl"
ENROL = "fh1.g6lj-oneTime_token"


@pytest.fixture
def patient(tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    """A device whose secrets have leaked into every file that may go into the archive."""
    made = Patient(tmp_path, source)
    root = made.paths.root
    (root / "device.env").write_text(
        "# shop\n" + "".join(f"{name}={value}\n" for name, value in SECRETS.items())
    )
    (root / "secrets").mkdir()
    (root / "secrets" / "shop").write_text(SHOP + "\n")
    (root / "enrolling.key").write_bytes(b"\xf0" * 32)
    made.offer(build(8, {"env/app.env.tmpl": b"PASSWORD=$DB_PASSWORD\n"}))
    seed = bytes(made.key)
    leaks = [*SECRETS.values(), SHOP, JWT, ENROL, seed.hex(), base64.b64encode(seed).decode()]
    leaks += [base64.urlsafe_b64encode(seed).decode(), (made.paths.identity / "key.pem").read_text()]
    leaks += ["Authorization: Bearer opaque-token-1", "mqtt://user:hunter22@broker", "password = letmein99"]
    text = "\n".join(f"leaked: {leak} !" for leak in leaks)
    for path in (book.place(made.paths), book.before(made.paths), made.paths.run / "exec.log"):
        path.write_text(text)
    (root / "diagnostics.json").write_text(json.dumps({"log": text}))
    (root / "agent.json").write_text(json.dumps({"mirror": "https://me:mirrorpass1@mirror.example"}))
    yield made
    made.close()


def ask(patient: Patient, *words: str) -> int:
    hooks = ["--hooks", str(patient.paths.hooks)]
    return main(["diagnose", "--state", str(patient.paths.root), *hooks, *words])


def unpacked(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_the_archive_holds_none_of_the_devices_secrets(
    patient: Patient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = bytes(Identity(patient.paths).key)
    before = everything(patient.paths.root)
    assert ask(patient, "--bundle", str(tmp_path / "support.tar.gz")) == 1, "its broker is out of reach"
    assert "without keys, tokens and values" in capsys.readouterr().out
    contents = unpacked(tmp_path / "support.tar.gz")
    forbidden = [value.encode() for value in SECRETS.values()] + [SHOP.encode(), JWT.encode(), ENROL.encode()]
    forbidden += [json.dumps(SECRETS["DB_PASSWORD"])[1:-1].encode(), b"a%2Fb%2Bc%3D%3D"]
    forbidden += [b"opaque-token-1", b"hunter22", b"letmein99", b"mirrorpass1", b"PRIVATE KEY"]
    for key in (seed, b"\xf0" * 32):
        forbidden += [key, key.hex().encode(), base64.b64encode(key)[:-1], base64.urlsafe_b64encode(key)[:-1]]
    found = [(name, secret) for name, data in contents.items() for secret in forbidden if secret in data]
    assert found == []
    # What is left is of use.
    names = {name.removeprefix("flaghoist-support/") for name in contents}
    assert names >= {
        "diagnose.json", "status.json", "state.json", "memory.json", "settings.json", "variables.txt",
        "diagnostics.json", "logs/agent.log", "logs/agent.log.before", "logs/exec.log", "machine/proc-meminfo",
    }  # fmt: skip
    shown = {name.removeprefix("flaghoist-support/"): data for name, data in contents.items()}
    assert shown["variables.txt"].split() == [name.encode() for name in SECRETS]
    assert json.loads(shown["status.json"])["device_id"] == DEVICE
    assert json.loads(shown["memory.json"])["manifest"]["manifest"]["role"] == "kiosk"
    assert shown["logs/agent.log"].count(b"leaked: ") > 10
    after = everything(patient.paths.root)
    assert {name for name in after if after[name] != before.get(name)} <= {"hook.log"}


def test_an_archive_that_cannot_be_written_is_named_with_the_way_out(
    patient: Patient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "none" / "a.tar.gz"
    assert ask(patient, "--bundle", str(file)) == 3
    said = capsys.readouterr().err
    assert (
        said
        == f"flaghoist-edge: {file} cannot be written (No such file or directory); name a file elsewhere\n"
    )


def test_the_archive_is_its_owners_and_overwrites_nothing(
    patient: Patient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.tar.gz"
    ask(patient, "--bundle", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    first = file.read_bytes()
    assert ask(patient, "--bundle", str(file)) == 1
    assert "is there already; name another file" in capsys.readouterr().err
    assert file.read_bytes() == first
    assert ask(patient, "--bundle", str(tmp_path / "none" / "a")) == 3


def test_an_archive_of_a_device_that_is_not_enrolled(tmp_path: Path) -> None:
    file = tmp_path / "a.tar.gz"
    assert main(["diagnose", "--state", str(tmp_path / "none"), "--bundle", str(file)]) == 1
    contents = unpacked(file)
    assert b"holds no identity" in contents["flaghoist-support/missing.txt"]
    assert json.loads(contents["flaghoist-support/diagnose.json"])["verdict"] == "fail"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        pytest.param(b"key abcd1234 end", b"key [removed] end", id="itself"),
        pytest.param(b"x" + b"abcd1234".hex().encode(), b"x[removed]", id="in hex"),
        pytest.param(base64.b64encode(b"abcd1234"), b"[removed]=", id="in base64"),
        pytest.param(b"token=xyz9, next", b"token=[removed], next", id="by a telling name"),
        pytest.param(b'{"api_key": "xyz9"}', b'{"api_key": "[removed]"}', id="by a telling name in JSON"),
        pytest.param(b"ftp://u:p9@h/x", b"ftp://[removed]@h/x", id="in a URL"),
        pytest.param(b"Bearer abc.def", b"Bearer [removed]", id="bearer"),
        pytest.param(b"a plain line", b"a plain line", id="nothing"),
        pytest.param(b"abc is short", b"abc is short", id="too short to be hidden"),
    ],
)
def test_what_is_taken_out(text: bytes, clean: bytes) -> None:
    assert Scrubber([b"abcd1234", b"abc"]).clean(text) == clean


def test_secrets_of_the_service_manager_are_known_too(tmp_path: Path) -> None:
    (tmp_path / "cred").mkdir()
    (tmp_path / "cred" / "db").write_text("from-systemd\n")
    found = scrub.known(Paths(tmp_path), {"CREDENTIALS_DIRECTORY": str(tmp_path / "cred")})
    assert b"from-systemd" in found


def test_secrets_that_the_settings_put_elsewhere_are_known(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "DB").write_text("from-elsewhere\n")
    (tmp_path / "agent.json").write_text(json.dumps({"secrets_dir": str(tmp_path / "elsewhere")}))
    assert b"from-elsewhere" in scrub.known(Paths(tmp_path), {})


# Watching


class Screen(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def looks(rounds: int, *, terminal: bool, as_json: bool) -> tuple[int, str, list[float]]:
    """Watch for some rounds, in the last of which a check fails; return code, output and pauses."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == rounds:
            raise KeyboardInterrupt

    def look() -> list[finding.Finding]:
        bad = len(pauses) == rounds - 1
        return [finding.failed("a", "x", "Do.") if bad else finding.passed("a", "x")]

    screen = Screen(terminal=terminal)
    ended = diagnose.watch(look, 7.0, as_json=as_json, out=screen, sleep=sleep)
    return ended, screen.getvalue(), pauses


def test_a_terminal_is_drawn_anew_and_the_last_look_is_the_exit_code() -> None:
    ended, said, pauses = looks(3, terminal=True, as_json=False)
    assert (ended, said.count(diagnose.HOME), pauses) == (1, 3, [7.0] * 3)


def test_in_a_pipe_looks_follow_each_other() -> None:
    _, said, _ = looks(2, terminal=False, as_json=False)
    assert "\x1b" not in said and said.count("again every 7 s") == 2


def test_as_json_a_look_is_a_line() -> None:
    _, said, _ = looks(2, terminal=True, as_json=True)
    assert [json.loads(line)["verdict"] for line in said.splitlines()] == ["pass", "fail"]


@pytest.mark.parametrize("text", ["0", "soon", "-1", "nan"])
def test_a_time_that_cannot_be_meant_is_wrong_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["diagnose", "--watch", text])
    assert caught.value.code == 2


# As any user


@contextlib.contextmanager
def somebody_else(root: Path) -> Iterator[None]:
    """Be a user who may not read `root`."""
    if os.geteuid():
        root.chmod(0)
        yield
        root.chmod(0o700)
        return
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_another_user_is_told_what_they_may_not_read(
    source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        Path(top).chmod(0o755)
        device = Patient(Path(top), source)
        ask(device, "--json")  # whatever it imports is in memory by now
        capsys.readouterr()
        with somebody_else(device.paths.root):
            code = ask(device, "--json")
        device.close()
    told = capsys.readouterr()
    assert told.err == ""
    said = json.loads(told.out)["checks"]
    failing: list[Any] = [each for each in said if each["level"] == "fail"]
    assert code == 1
    assert [each["check"] for each in failing] == ["identity"]
    assert "agent's user" in failing[0]["remedy"]
    assert {"clock", "memory"} <= {each["check"] for each in said if each["level"] == "pass"}


def test_a_file_that_cannot_be_read_fails_its_own_check_and_the_rest_goes_on(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Spool, "peek", refuse)
    found = {each.check: each for each in patient.ask()}
    for check in ("reports waiting", "oldest report"):
        assert (
            found[check].level == "fail" and "frames cannot be read: Permission denied" in found[check].detail
        )
    assert found["broker name"].level == "pass"


# The disk's own word


@pytest.mark.parametrize(
    ("errors", "wear", "levels"),
    [
        pytest.param(None, None, ["pass", "pass"], id="neither is told"),
        pytest.param("0\n", "0x01\n", ["pass", "pass"], id="well"),
        pytest.param("3\n", "0x02\n", ["fail", "warn"], id="errors and wear"),
        pytest.param("junk", "0x03\n", ["pass", "fail"], id="worn out"),
    ],
)
def test_a_disk_that_tells_of_errors_and_wear(
    tmp_path: Path, errors: str | None, wear: str | None, levels: list[str]
) -> None:
    number = tmp_path.stat().st_dev
    partition = tmp_path / "sys/devices/mmcblk0/mmcblk0p2"
    partition.mkdir(parents=True)
    link = tmp_path / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
    link.parent.mkdir(parents=True)
    link.symlink_to(partition)
    if errors is not None:
        (tmp_path / "sys/fs/ext4/mmcblk0p2").mkdir(parents=True)
        (tmp_path / "sys/fs/ext4/mmcblk0p2/errors_count").write_text(errors)
    if wear is not None:
        (tmp_path / "sys/devices/mmcblk0/device").mkdir()
        (tmp_path / "sys/devices/mmcblk0/device/pre_eol_info").write_text(wear)
    assert [each.level for each in disk.check(tmp_path, tmp_path)] == levels
