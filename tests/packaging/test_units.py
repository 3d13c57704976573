"""The systemd units, as systemd itself reads them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from edge.config import DEFAULT_STATE
from edge.verbs import parser
from hub.main import up
from tests.e2e.fleet import BIN, until
from tests.support.ports import held_port

UNITS = Path(__file__).parents[2] / "systemd"
NAMES = sorted(path.name for path in UNITS.iterdir() if path.suffix in (".service", ".timer"))
HUB, AGENT, ONCE = "flaghoist-hub.service", "flaghoist-agent.service", "flaghoist-agent-once.service"
TIMER = "flaghoist-agent-once.timer"

systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing (apt install systemd)"
)


def settings(name: str) -> list[tuple[str, str]]:
    """Every assignment of a unit, in order."""
    return re.findall(r"^(\w+)=(.*)$", (UNITS / name).read_text(), re.M)


def sandbox(name: str) -> list[tuple[str, str]]:
    text = (UNITS / name).read_text().partition("# Sandbox")[2].partition("[Install]")[0]
    return re.findall(r"^(\w+)=(.*)$", text, re.M)


def verify(folder: Path, name: str, text: str) -> str:
    """Return what systemd says of the unit `name` with `text`, on a machine where the commands are installed."""
    units = folder / "etc/systemd/system"
    units.mkdir(parents=True)
    for path in UNITS.iterdir():
        if path.is_file():
            shutil.copy(path, units)
    (units / name).write_text(text)
    programs = folder / "opt/flaghoist/bin"
    programs.mkdir(parents=True)
    for program in ("flaghoist-edge", "flaghoist-hub"):
        (programs / program).write_text("#!/bin/sh\n")
        (programs / program).chmod(0o755)
    (folder / "usr/lib/systemd").mkdir(parents=True)
    (folder / "lib").symlink_to("usr/lib")
    source = next(
        path for path in map(Path, ("/usr/lib/systemd/system", "/lib/systemd/system")) if path.exists()
    )
    shutil.copytree(source, folder / "usr/lib/systemd/system", symlinks=True)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", f"--root={folder}", name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stderr + (f"exit code {done.returncode}" if done.returncode else "")


@systemd
@pytest.mark.parametrize("name", NAMES)
def test_systemd_finds_nothing_to_say(name: str, tmp_path: Path) -> None:
    assert verify(tmp_path, name, (UNITS / name).read_text()) == ""


@systemd
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param("KillMode=process", "KillMod=process", "Unknown key", id="a key that systemd does not know"),
        pytest.param("Type=notify", "Type=notified", "Failed to parse", id="a value that it does not know"),
        pytest.param("bin/flaghoist-edge", "bin/edge", "not executable", id="a command that is not installed"),
    ],
)  # fmt: skip
def test_systemd_would_have_said(old: str, new: str, said: str, tmp_path: Path) -> None:
    text = (UNITS / AGENT).read_text()
    assert old in text
    assert said in verify(tmp_path, AGENT, text.replace(old, new))


@systemd
@pytest.mark.parametrize(
    ("name", "threshold"),
    [
        pytest.param(HUB, 15, id="the hub, which needs little"),
        pytest.param(AGENT, 40, id="the agent, whose sandbox is that of every release"),
        pytest.param(ONCE, 40, id="a round of the agent"),
    ],
)
def test_exposure_stays_below(name: str, threshold: int) -> None:
    """The threshold is in tenths of what systemd-analyze prints, as its own option wants it."""
    done = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=true",
            f"--threshold={threshold}",
            "--no-pager",
            UNITS / name,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_round_has_the_sandbox_of_the_agent() -> None:
    """A release that was started by a round must find what it found under the connected agent."""
    assert sandbox(AGENT) == sandbox(ONCE) != []


@pytest.mark.parametrize("name", [AGENT, ONCE])
def test_the_end_of_the_agent_is_not_the_end_of_the_service(name: str) -> None:
    found = dict(settings(name))
    assert found["KillMode"] == "process"
    # Emptied or taken away at the agent's end, while the service still stands on it.
    assert not found.keys() & {
        "PrivateTmp",
        "RuntimeDirectory",
        "DynamicUser",
        "SendSIGHUP",
        "OOMScoreAdjust",
    }


def test_the_agent_is_watched_and_started_again() -> None:
    found = dict(settings(AGENT))
    assert (found["Type"], found["Restart"], found["StartLimitIntervalSec"]) == ("notify", "always", "0")
    assert int(found["WatchdogSec"]) >= 120


def test_rounds_of_a_fleet_are_spread() -> None:
    assert "RandomizedDelaySec" in dict(settings(TIMER))


@pytest.mark.parametrize("name", [AGENT, ONCE])
def test_the_agents_commands_are_ones_that_it_knows(name: str) -> None:
    program, *words = dict(settings(name))["ExecStart"].split()
    assert program == "/opt/flaghoist/bin/flaghoist-edge"
    assert (
        parser.build().parse_args(words).state
        == DEFAULT_STATE
        == Path("/var/lib") / dict(settings(name))["StateDirectory"]
    )


def test_the_hubs_options_are_ones_that_it_knows() -> None:
    text = (UNITS / HUB).read_text()
    program, verb, *words = dict(settings(HUB))["ExecStart"].split()
    assert (program, verb, words[-1]) == ("/opt/flaghoist/bin/flaghoist-hub", "up", "$FLAGHOIST_HUB_OPTIONS")
    (example,) = re.findall(r"FLAGHOIST_HUB_OPTIONS=(.*)", text)
    parsed = up.make_context("up", [*words[:-1], *example.split()]).params
    assert parsed["data"] == Path("/var/lib") / dict(settings(HUB))["StateDirectory"]


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is missing")
def test_user_and_folders_are_made_as_written(tmp_path: Path) -> None:
    """Below a root of its own, and only where this may be done."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\n")
    snippet = UNITS / "sysusers.d/flaghoist-hub.conf"
    made = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", snippet],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if made.returncode and "denied" in made.stderr:
        pytest.skip("only root may make users")
    assert made.returncode == 0, made.stderr
    fields = dict(line.split(":", 1) for line in (tmp_path / "etc/passwd").read_text().splitlines())
    user = dict(settings(HUB))["User"]
    uid = int(fields[user].split(":")[1])
    assert fields[user].endswith(":/var/lib/flaghoist-hub:/usr/sbin/nologin")
    done = subprocess.run(
        ["systemd-tmpfiles", "--create", f"--root={tmp_path}", *sorted((UNITS / "tmpfiles.d").iterdir())],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for name, mode, owner in (
        ("var/lib/flaghoist", 0o700, 0),
        ("var/lib/flaghoist-hub", 0o700, uid),
        ("etc/flaghoist", 0o750, 0),
    ):
        found = (tmp_path / name).stat()
        assert (found.st_mode & 0o7777, found.st_uid) == (mode, owner), name


# What the hub's unit refuses


def members(name: str) -> set[str]:
    """Every system call of a set of systemd's, its subsets included."""
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, timeout=30, check=True
    )
    lines = [line.strip() for line in listed.stdout.splitlines()[1:]]
    found = {line for line in lines if line and line[0] not in "#@"}
    return found.union(*(members(line) for line in lines if line.startswith("@")))


def allowed(name: str) -> set[str]:
    """The system calls that a unit lets through; its assignments add and, with ~, take away, in order."""
    found: set[str] = set()
    for key, value in settings(name):
        if key == "SystemCallFilter":
            words = value.removeprefix("~").split()
            named = set().union(*(members(word) if word.startswith("@") else {word} for word in words))
            found = found - named if value.startswith("~") else found | named
    return found


@pytest.mark.heavy
@systemd
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing (apt install strace)")
def test_the_hub_and_its_broker_make_no_call_that_the_unit_refuses() -> None:
    """From start to a live API to an orderly stop, as a user that is not root."""
    folder = Path(tempfile.mkdtemp(prefix="flaghoist-unit-"))
    user: list[str] = []
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
        user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    address = f"127.0.0.1:{held_port()}"
    hub, data, trace = str(BIN / "flaghoist-hub"), str(folder / "data"), folder / "trace"
    command = [*user, hub, "up", "--data", data, "--http", address, "--mqtt", "127.0.0.1:0"]
    with (folder / "log").open("wb") as log:
        traced = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", str(trace), *command], stdout=log, stderr=log, cwd=folder
        )
    try:

        def live() -> bool:
            assert traced.poll() is None, (folder / "log").read_text()[-2000:]
            with contextlib.suppress(OSError), urlopen(f"http://{address}/health/live", timeout=5) as answer:
                return bool(answer.status == 200)
            return False

        until("a live API", live, seconds=90, every=0.5)
        (child,) = psutil.Process(traced.pid).children()
        child.terminate()
        assert traced.wait(60) == 0
        # What setpriv does to become that user is systemd's business under the unit.
        own = trace.read_text(errors="replace").partition(f'execve("{hub}"')[2]
        calls = set(re.findall(r"^\d+ +([a-z_][a-z_0-9]*)\(", own, re.M))
        assert {"execve", "capset", "bind", "accept4"} <= calls
        assert calls - allowed(HUB) == set()
    finally:
        if traced.poll() is None:
            for process in [*psutil.Process(traced.pid).children(recursive=True), traced]:
                process.kill()
            traced.wait()
        shutil.rmtree(folder)
