"""The agent as a process over HTTPS, where the hub, or a proxy before it, takes every request and never answers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.edge.rig import alive, hang, stop
from tests.edge.test_exchange import enrolled
from tests.edge.test_notify import Manager, environment
from tests.edge.world import Box, Source, wait_until


@pytest.fixture
def silent(source: Source) -> Source:
    source.faults = [hang] * 100
    return source


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.socket.close()


@pytest.fixture
def start(tmp_path: Path, silent: Source, manager: Manager) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    box = Box(tmp_path, silent)
    box.close()
    enrolled(box.paths.root, silent.url)
    running: list[subprocess.Popen[str]] = []

    def run() -> subprocess.Popen[str]:
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "edge.main", "run", "--state", str(box.paths.root)],
                text=True,
                env=os.environ | environment(manager, 0.4) | {"FLAGHOIST_EDGE_TRANSPORT": "https"},
            )
        )
        return running[-1]

    yield run
    for process in running:
        process.kill()
        process.wait()


def asking(process: subprocess.Popen[str]) -> int:
    """Return the process that asks the hub in the agent's name."""
    found = []
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # the update process may end at any moment
            if "edge.polling.exchange" in Path(f"/proc/{pid}/cmdline").read_text():
                found.append(int(pid))
    assert len(found) == 1
    return found[0]


def test_a_hub_that_hangs_starves_neither_the_watchdog_nor_signals(
    start: Callable[[], subprocess.Popen[str]], silent: Source, manager: Manager
) -> None:
    process = start()
    wait_until(lambda: silent.requests, what="the first request, which hangs")
    for _ in range(3):
        manager.hear_until("WATCHDOG=1")
    pid = asking(process)
    stop(process)
    assert not alive(pid)


def test_the_process_that_asks_does_not_outlive_an_agent_that_is_killed(
    start: Callable[[], subprocess.Popen[str]], silent: Source
) -> None:
    process = start()
    wait_until(lambda: silent.requests, what="the first request, which hangs")
    pid = asking(process)
    process.kill()
    process.wait()
    wait_until(lambda: not alive(pid), what="its end")
