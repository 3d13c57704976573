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
DEPLOY = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()
NAMES = sorted(
    path.name for path in UNITS.iterdir() if path.suffix in (".service", ".timer", ".target", ".path")
)
DROP_INS = sorted(path.name for path in (UNITS / "hooks").iterdir())
HUB, AGENT, ONCE = "flaghoist-hub.service", "flaghoist-agent.service", "flaghoist-agent-once.service"
TIMER = "flaghoist-agent-once.timer"
BOOT, BROKER = "flaghoist-boot-confirm.service", "flaghoist-broker.service"

systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing (apt install systemd)"
)


def settings(name: str) -> list[tuple[str, str]]:
    """Every assignment of a unit, in order."""
    return re.findall(r"^(\w+)=(.*)$", (UNITS / name).read_text(), re.M)


def sandbox(name: str) -> list[tuple[str, str]]:
    text = (UNITS / name).read_text().partition("# Sandbox")[2].partition("[Install]")[0]
    return re.findall(r"^(\w+)=(.*)$", text, re.M)


def verify(folder: Path, name: str, text: str, drop_in: str = "") -> str:
    """Return what systemd says of the unit `name` with `text`, on a machine where the commands are installed."""
    units = folder / "etc/systemd/system"
    units.mkdir(parents=True)
    for path in UNITS.iterdir():
        if path.is_file():
            shutil.copy(path, units)
    (units / name).write_text(text)
    if drop_in:
        (units / f"{name}.d").mkdir()
        shutil.copy(UNITS / "hooks" / drop_in, units / f"{name}.d")
    for program in (
        "opt/flaghoist/bin/flaghoist-edge",
        "opt/flaghoist/bin/flaghoist-hub",
        "usr/sbin/mosquitto",
        "bin/sh",
        "bin/kill",
    ):
        path = folder / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
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
@pytest.mark.parametrize("drop_in", DROP_INS)
@pytest.mark.parametrize("name", [AGENT, ONCE, BOOT])
def test_systemd_finds_nothing_to_say_of_a_drop_in(name: str, drop_in: str, tmp_path: Path) -> None:
    assert verify(tmp_path, name, (UNITS / name).read_text(), drop_in) == ""


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


SCORES = {
    HUB: 1.5,
    BROKER: 1.5,
    AGENT: 2.5,
    ONCE: 2.5,
    BOOT: 2.0,
    "flaghoist-safe-mode.service": 1.0,
}
"""What each service stays below."""
WIDENED = {
    ("compose.conf",): 2.5,
    ("exec.conf",): 2.5,
    ("exec.conf", "exec-devices.conf"): 3.0,
    ("exec.conf", "exec-limits.conf"): 3.0,
    ("exec.conf", "exec-users.conf"): 3.0,
    ("rauc.conf",): 2.5,
    ("swupdate.conf",): 2.5,
}
"""What the agent stays at or below with the drop-ins of a hook, as they are meant to be put beside each other."""
MOST = 3.0


def exposure(unit: Path, root: Path) -> float:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--root={root}", "--no-pager", unit.name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+) ", done.stdout)
    assert found is not None, done.stdout + done.stderr
    return float(found[1])


def installed(root: Path, name: str, drop_ins: tuple[str, ...] = ()) -> Path:
    units = root / "etc/systemd/system"
    (units / f"{name}.d").mkdir(parents=True)
    shutil.copy(UNITS / name, units)
    for drop_in in drop_ins:
        shutil.copy(UNITS / "hooks" / drop_in, units / f"{name}.d")
    return units / name


def test_every_service_and_drop_in_has_a_bound() -> None:
    assert set(SCORES) == {name for name in NAMES if name.endswith(".service")}
    assert {names[-1] for names in WIDENED} == set(DROP_INS)
    assert max(*SCORES.values(), *WIDENED.values()) <= MOST


@systemd
@pytest.mark.parametrize("name", SCORES)
def test_exposure_stays_below(name: str, tmp_path: Path) -> None:
    assert exposure(installed(tmp_path, name), tmp_path) < SCORES[name]


@systemd
@pytest.mark.parametrize("drop_ins", WIDENED, ids="+".join)
def test_a_drop_in_widens_what_its_hook_needs_and_the_page_says_how_much(
    drop_ins: tuple[str, ...], tmp_path: Path
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    plain = exposure(installed(before, AGENT, drop_ins[:-1]), before)
    found = exposure(installed(after, AGENT, drop_ins), after)
    assert plain <= found <= WIDENED[drop_ins]
    assert exposure(installed(after, BOOT, drop_ins), after) <= MOST
    row = next(line for line in DEPLOY.splitlines() if line.startswith(f"| `{drop_ins[-1]}` |"))
    assert f"| {found} |" in row


def test_the_round_has_the_sandbox_of_the_agent() -> None:
    """A release that was started by a round must find what it found under the connected agent."""
    assert sandbox(AGENT) == sandbox(ONCE) != []


@pytest.mark.parametrize("name", [AGENT, ONCE])
def test_the_end_of_the_agent_is_not_the_end_of_the_service(name: str) -> None:
    found = dict(settings(name))
    assert found["KillMode"] == "process"
    # Emptied or taken away at the agent's end, while the service still stands on it.
    assert not found.keys() & {"RuntimeDirectory", "DynamicUser", "SendSIGHUP", "OOMScoreAdjust"}
    under_exec = found | dict(settings("hooks/exec.conf"))
    assert (under_exec["PrivateTmp"], under_exec["PrivateIPC"]) == ("no", "no")


def test_the_agent_is_watched_and_started_again() -> None:
    found = dict(settings(AGENT))
    assert (found["Type"], found["Restart"], found["StartLimitIntervalSec"]) == ("notify", "always", "0")
    # An agent that came with a release may end with any code; only further starts lead back to the one before.
    assert "RestartPreventExitStatus" not in found
    assert int(found["WatchdogSec"]) >= 120


def test_rounds_of_a_fleet_are_spread() -> None:
    assert "RandomizedDelaySec" in dict(settings(TIMER))


def test_a_boot_is_confirmed_before_it_counts_as_complete() -> None:
    found = dict(settings(BOOT))
    assert (found["Before"], found["RequiredBy"]) == ("boot-complete.target", "boot-complete.target")
    assert found["After"] == AGENT


@pytest.mark.parametrize("name", [AGENT, ONCE, BOOT])
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
    made = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", *sorted((UNITS / "sysusers.d").iterdir())],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if made.returncode and "denied" in made.stderr:
        pytest.skip("only root may make users")
    assert made.returncode == 0, made.stderr
    fields = dict(line.split(":", 1) for line in (tmp_path / "etc/passwd").read_text().splitlines())
    uids = {}
    for unit in (HUB, BROKER):
        user, home = (dict(settings(unit))[key] for key in ("User", "StateDirectory"))
        uids[unit] = int(fields[user].split(":")[1])
        assert fields[user].endswith(f":/var/lib/{home}:/usr/sbin/nologin")
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
        ("var/lib/flaghoist-hub", 0o700, uids[HUB]),
        ("var/lib/flaghoist-broker", 0o700, uids[BROKER]),
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
