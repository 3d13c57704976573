"""The `exec` hook with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.edge.world import wait_until

HOOK = Path(__file__).parents[2] / "firmware_hooks" / "exec"
SERVICE = """#!/bin/sh
echo "$FLAGHOIST_RELEASE_ID $PORT $COLOUR $PWD" > "$FLAGHOIST_RUN_DIR/said"
echo ready
exec sleep 600
"""
STUBBORN = """#!/bin/sh
trap '' TERM
sleep 600 & echo $! > "$FLAGHOIST_RUN_DIR/child"
echo ready > "$FLAGHOIST_RUN_DIR/said"
while :; do wait; done
"""


class Bench:
    """A state directory with releases, and the hook."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = root / "run"
        self.run.mkdir(parents=True)
        self.pids: set[int] = set()

    def release(self, name: str, script: str = SERVICE, **spec: Any) -> Path:
        folder = self.root / "releases" / name
        (folder / "files").mkdir(parents=True)
        program = folder / "files" / "service"
        program.write_text(script)
        program.chmod(0o755)
        about = {"exec": {"command": ["files/service"], **spec}}
        (folder / "bundle.json").write_text(json.dumps(about))
        return folder

    def call(self, verb: str, name: str, previous: str = "", **more: str) -> tuple[int, str]:
        releases = self.root / "releases"
        environment = {
            "PATH": os.environ["PATH"],
            "PORT": "8081",
            "FLAGHOIST_RELEASE_ID": name,
            "FLAGHOIST_RELEASE_DIR": str(releases / name),
            "FLAGHOIST_PREVIOUS_DIR": str(releases / previous) if previous else "",
            "FLAGHOIST_STATE_DIR": str(self.root),
            "FLAGHOIST_RUN_DIR": str(self.run),
            "FLAGHOIST_ROLE": "kiosk",
            "FLAGHOIST_DEVICE_ID": "shop-12",
            **more,
        }
        done = subprocess.run(
            [HOOK, verb], env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        if (pid := self.pid) is not None:
            self.pids.add(pid)
        return done.returncode, done.stderr.strip()

    @property
    def record(self) -> dict[str, Any]:
        return json.loads((self.run / "exec.json").read_text())  # type: ignore[no-any-return]

    @property
    def pid(self) -> int | None:
        try:
            return int(self.record["pid"])
        except (OSError, ValueError, TypeError):
            return None

    def said(self) -> list[str]:
        path = self.run / "said"
        return wait_until(lambda: path.exists() and path.read_text().split(), what="the service's word")  # type: ignore[no-any-return]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for pid in made.pids:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_a_release_runs_in_its_folder_with_the_devices_variables(bench: Bench) -> None:
    folder = bench.release("a")
    env = bench.root / "rendered" / "a" / "env"
    env.mkdir(parents=True)
    (env / "look.env").write_text("# made\nCOLOUR=red\n")
    assert bench.call("install", "a") == (0, "")
    assert bench.call("activate", "a") == (0, "")
    assert bench.said() == ["a", "8081", "red", str(folder)]
    assert bench.call("probe", "a") == (0, "")
    assert bench.call("confirm", "a") == (0, "")
    assert bench.pid is not None
    assert os.getsid(bench.pid) == bench.pid, "the service outlives whoever started it"


def test_activating_again_starts_no_second_copy(bench: Bench) -> None:
    bench.release("a")
    bench.call("activate", "a")
    first = bench.pid
    assert bench.call("activate", "a") == (0, "")
    assert bench.pid == first


def test_the_next_release_replaces_the_one_before_and_rollback_puts_it_back(bench: Bench) -> None:
    bench.release("a")
    bench.release("b")
    bench.call("activate", "a")
    old = bench.pid
    bench.call("activate", "b", "a")
    new = bench.pid
    assert old is not None and new is not None
    assert not runs(old) and runs(new)
    assert bench.call("probe", "a")[0] != 0
    assert bench.call("rollback", "b", "a") == (0, "")
    assert not runs(new)
    assert bench.call("probe", "a") == (0, "")
    assert bench.call("rollback", "b", "a") == (0, ""), "again, after a crash"


def test_rollback_without_a_release_before_stops_it(bench: Bench) -> None:
    bench.release("a")
    bench.call("activate", "a")
    pid = bench.pid
    assert bench.call("rollback", "a") == (0, "")
    assert pid is not None and not runs(pid)
    assert bench.call("rollback", "a") == (0, "")


def test_a_service_that_ignores_sigterm_is_killed_with_its_children(bench: Bench) -> None:
    bench.release("a", STUBBORN, stop_seconds=1)
    bench.call("activate", "a")
    bench.said()
    pid, child = bench.pid, int((bench.run / "child").read_text())
    assert bench.call("safe-mode", "a") == (0, "")
    assert pid is not None and not runs(pid)
    wait_until(lambda: not runs(child))


def test_probe_fails_when_the_process_is_gone_and_says_its_last_words(bench: Bench) -> None:
    bench.release("a")
    bench.call("activate", "a")
    bench.said()
    assert bench.pid is not None
    os.killpg(bench.pid, signal.SIGKILL)
    wait_until(lambda: bench.call("probe", "a")[0] != 0)
    assert bench.call("probe", "a")[1] == "exec: the release's process is gone: ready"
    assert bench.call("activate", "a") == (0, "")
    assert bench.call("probe", "a") == (0, "")


def test_it_tells_what_runs_instead(bench: Bench) -> None:
    bench.release("a")
    bench.release("b")
    items = bench.root / "items"
    bench.call("activate", "a")
    bench.call("probe", "a", FLAGHOIST_ITEMS=str(items))
    assert not items.exists(), "all is well"
    bench.call("probe", "b", FLAGHOIST_ITEMS=str(items))
    bench.call("safe-mode", "a")
    bench.call("probe", "a", FLAGHOIST_ITEMS=str(items))
    told = [tuple(json.loads(line).values()) for line in items.read_text().splitlines()]
    assert told == [("exec", "b running", "a running"), ("exec", "a running", "gone")]


def test_a_service_that_ends_at_once_fails_to_activate(bench: Bench) -> None:
    bench.release("a", "#!/bin/sh\necho cannot bind >&2\nexit 3\n")
    code, reason = bench.call("activate", "a")
    assert code != 0
    assert reason == "exec: files/service ended at once with 3: cannot bind" or reason.endswith("cannot bind")


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param({"start": 1}, id="same pid, started at another time"),
        pytest.param({"boot": "another"}, id="same pid, of an earlier boot"),
    ],
)
def test_a_process_that_only_has_the_same_pid_is_left_alone(bench: Bench, spoil: dict[str, Any]) -> None:
    bench.release("a")
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        record = {
            "pid": stranger.pid,
            "start": 1,
            "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "release": "a",
            "folder": str(bench.root / "releases" / "a"),
            **spoil,
        }
        (bench.run / "exec.json").write_text(json.dumps(record))
        assert bench.call("probe", "a")[0] != 0
        assert bench.call("rollback", "a") == (0, "")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("damage", [lambda record: record.unlink(), lambda record: record.write_text("{")])
def test_a_service_whose_record_was_lost_is_found_and_never_started_twice(
    bench: Bench, damage: Callable[[Path], object]
) -> None:
    bench.release("a")
    bench.release("b")
    assert bench.call("activate", "a") == (0, "")
    pid = bench.record["pid"]
    damage(bench.run / "exec.json")
    assert bench.call("probe", "a") == (0, "")
    assert bench.call("activate", "a") == (0, "")
    assert runs(pid) and bench.record["pid"] == pid
    damage(bench.run / "exec.json")
    assert bench.call("activate", "b") == (0, "")
    assert not runs(pid) and bench.record["release"] == "b"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', "\0" * 50])
def test_a_damaged_record_counts_as_nothing_running(bench: Bench, content: str) -> None:
    bench.release("a")
    (bench.run / "exec.json").write_text(content)
    assert bench.call("probe", "a")[0] != 0
    assert bench.call("activate", "a") == (0, "")
    assert bench.call("probe", "a") == (0, "")


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        pytest.param({}, "no exec.command", id="no command"),
        pytest.param({"exec": {"command": ["files/none"]}}, "not a program", id="no such file"),
        pytest.param({"exec": {"command": ["no-such-program"]}}, "not a program", id="no such program"),
    ],
)
def test_a_command_that_cannot_start_fails_at_install(
    bench: Bench, about: dict[str, Any], reason: str
) -> None:
    folder = bench.release("a")
    (folder / "bundle.json").write_text(json.dumps(about))
    code, said = bench.call("install", "a")
    assert code != 0
    assert reason in said


def test_an_unknown_verb_is_refused(bench: Bench) -> None:
    bench.release("a")
    code, said = bench.call("explode", "a")
    assert code != 0
    assert "no verb" in said


def test_the_hook_is_executable_in_the_repository() -> None:
    for name in ("exec", "compose"):
        assert os.access(HOOK.with_name(name), os.X_OK)
