"""The real update process under strace: what is done to the device comes after it was written down, call by call.

What becomes of it when it is killed at a call is in `tests/kills`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.updating import restart
from tests.edge.patient import Patient
from tests.edge.world import QUICK, Built, Source, build
from tests.kills.strace import traced

CALLS = "write,fsync,rename,renameat,renameat2,connect,execve,symlink,symlinkat"


class Traced(Patient):
    """A device whose next update is begun, and carried on by a process of its own under strace."""

    def begin(self, built: Built) -> None:
        """Let the agent begin an update and not run it."""
        assert self.source is not None
        # The process goes on in the machine's own boot, in which the running release was seen to before.
        self.boot = restart.boot()
        self.agent.check_now()
        self.settle()
        self.source.add(built)
        self.agent.on_message(f"{self.device.fleet}/v1/releases/kiosk/canary", self.manifest(built))
        assert self.state.update is not None and self.state.update.state == "downloading"

    def command(self) -> list[str]:
        where = ["--state", str(self.paths.root), "--hooks", str(self.paths.hooks)]
        return [sys.executable, "-m", "edge.main", "update", *where]

    def carry_on(self, *tracer: str) -> int:
        quick = {"RETRY_BASE_SECONDS": QUICK.retry_base_seconds, "LATER_SECONDS": QUICK.later_seconds}
        settings = {f"FLAGHOIST_EDGE_{name}": str(value) for name, value in quick.items()}
        done = subprocess.run(
            [*tracer, *self.command()],
            env=os.environ | settings | {"PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            timeout=100,
            check=False,
        )
        return done.returncode


@pytest.fixture
def device(tmp_path: Path, source: Source) -> Iterator[Traced]:
    made = Traced(tmp_path, source)
    yield made
    made.close()


def effects(trace: str, root: Path) -> Iterator[tuple[str, str]]:
    """Yield (effect, what `state` said on disk at that moment) for everything that is done to the device.

    `state` counts as on disk once its new file was forced there, renamed, and its folder forced there, in this order.
    """
    written = forced = renamed = durable = ""
    for line in trace.splitlines():
        call = line.split(None, 1)[1]
        if found := re.search(r"^write\(\d+<[^>]*/\.state\.new>.*?\\245state\\2\d\d([a-z_]+)", call):
            written, forced = found[1], ""
        elif re.match(r"fsync\(\d+<[^>]*/\.state\.new>", call):
            forced = written
        elif call.startswith("rename") and "/.state.new" in call:
            assert forced == written, "state was renamed before it was forced to disk"
            renamed = forced
        elif re.match(rf"fsync\(\d+<{re.escape(str(root))}>", call):
            durable = renamed
        elif call.startswith("connect(") and "AF_INET" in call:
            yield "download", durable
        elif call.startswith("rename") and "/.staging-" in call:
            yield "stage", durable
        elif call.startswith("rename") and "/.current.new" in call:
            yield "swap", durable
        elif found := re.match(r'execve\("[^"]*/hooks/fake", \["[^"]*", "([a-z-]+)"', call):
            yield found[1], durable


def trace(device: Traced, folder: Path) -> list[tuple[str, str]]:
    output = folder / "trace"
    device.carry_on("strace", "-f", "-y", "-s", "65536", "-e", f"trace={CALLS}", "-o", str(output))
    return list(effects(output.read_text(errors="replace"), device.paths.root))


@pytest.mark.heavy
@traced
def test_each_step_of_a_good_update_is_on_disk_before_it_takes_effect(device: Traced, tmp_path: Path) -> None:
    device.begin(build(8))
    assert list(dict.fromkeys(trace(device, tmp_path))) == [
        ("download", "downloading"),
        ("stage", "verified"),
        ("install", "activating"),
        ("swap", "activating"),
        ("activate", "activating"),
        ("probe", "probation"),
        ("probe", "committed"),
        ("confirm", "committed"),
    ]
    assert device.state.running_id == build(8).id


@pytest.mark.heavy
@traced
def test_each_step_back_is_on_disk_before_it_takes_effect(device: Traced, tmp_path: Path) -> None:
    device.begin(build(8, {"files/fail-probe": b""}))
    assert list(dict.fromkeys(trace(device, tmp_path)))[5:] == [
        ("probe", "probation"),
        ("swap", "rolling_back"),
        ("rollback", "rolling_back"),
        ("probe", "rolled_back"),
    ]
    assert device.state.running_id == build(7).id


def test_a_trace_in_which_the_effect_comes_first_is_noticed() -> None:
    """The reader of traces can say no."""
    lines = [
        '1 write(5</d/.state.new>, "FHR1\\245state\\252activating", 9) = 9',
        "1 fsync(5</d/.state.new>) = 0",
        '1 rename("/d/.state.new", "/d/state") = 0',
        '1 rename("/d/.current.new", "/d/current") = 0',
        "1 fsync(5</d>) = 0",
    ]
    assert list(effects("\n".join(lines), Path("/d"))) == [("swap", "")]
    with pytest.raises(AssertionError, match="before it was forced"):
        list(effects("\n".join([lines[0], lines[2]]), Path("/d")))
