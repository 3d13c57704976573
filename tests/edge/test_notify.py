"""What a service manager hears from the agent, as systemd would: on a datagram socket of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.machine.notify import Notifier
from tests.edge.rig import Rig, stop
from tests.edge.world import wait_until


class Manager:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(20)

    def hear(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")

    def hear_until(self, wanted: str) -> list[str]:
        """Return every assignment up to the first that begins with `wanted`."""
        heard: list[str] = []
        while not any(line.startswith(wanted) for line in heard):
            heard += self.hear()
        return heard

    def silent(self) -> bool:
        self.socket.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            self.socket.recv(4096)
            return False
        return True


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = f"@flaghoist-{secrets.token_hex(8)}" if request.param == "abstract" else str(tmp_path / "notify")
    made = Manager(name)
    yield made
    made.socket.close()


def environment(manager: Manager, watchdog_seconds: float = 0) -> dict[str, str]:
    usec = {"WATCHDOG_USEC": str(int(watchdog_seconds * 1e6))} if watchdog_seconds else {}
    return {"NOTIFY_SOCKET": manager.address} | usec


def test_assignments_arrive_one_a_line(manager: Manager) -> None:
    Notifier(environment(manager), 1).tell("READY=1", "STATUS=first\nsecond")
    assert manager.hear() == ["READY=1", "STATUS=first second"]


def test_the_watchdog_is_fed_at_a_quarter_and_wanted_at_half(manager: Manager) -> None:
    """Turns that come in between, as those of a connected agent do, cost no message and no wake-up."""
    notifier = Notifier(environment(manager, 600), 1)
    notifier.turned(1000.0)
    assert manager.hear() == ["WATCHDOG=1"]
    assert notifier.deadline == 1300.0
    notifier.turned(1149.0)
    assert manager.silent()
    notifier.turned(1150.0)
    assert manager.hear() == ["WATCHDOG=1"]
    assert notifier.deadline == 1450.0


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="no manager"),
        pytest.param({"WATCHDOG_USEC": "600000000"}, id="a watchdog without a manager"),
        pytest.param({"NOTIFY_SOCKET": "/nowhere/notify"}, id="no watchdog"),
        pytest.param(
            {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "600000000", "WATCHDOG_PID": "2"},
            id="another process's watchdog",
        ),
        pytest.param({"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "soon"}, id="no number"),
    ],
)
def test_without_a_watchdog_nobody_is_woken(environ: dict[str, str]) -> None:
    assert Notifier(environ, 1).deadline is None


def test_a_manager_that_is_gone_stops_nothing() -> None:
    notifier = Notifier({"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "600000000"}, 1)
    notifier.tell("READY=1")
    notifier.turned(1000.0)
    assert notifier.deadline == 1300.0


def run(rig: Rig, manager: Manager, watchdog_seconds: float = 0) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        rig.command("run"),
        env=rig.environment | environment(manager, watchdog_seconds),
        stderr=subprocess.PIPE,
        text=True,
    )
    rig.processes.append(process)
    return process


def test_an_agent_says_ready_connected_and_stopping(rig: Rig, manager: Manager) -> None:
    process = run(rig, manager)
    assert manager.hear()[0] == "READY=1"
    assert manager.hear_until("STATUS=connected")
    stop(process)
    assert "STOPPING=1" in manager.hear_until("STOPPING")


def test_an_agent_without_a_broker_is_ready_and_says_why_it_is_not_connected(
    rig: Rig, manager: Manager
) -> None:
    rig.broker.stop()
    process = run(rig, manager)
    heard = manager.hear_until("STATUS=not connected: ")
    assert heard[0] == "READY=1"
    assert "refused" in heard[-1]
    stop(process)


def test_the_watchdog_is_fed_while_the_loop_turns_and_starves_when_it_hangs(
    rig: Rig, manager: Manager
) -> None:
    process = run(rig, manager, watchdog_seconds=0.4)
    for _ in range(3):
        manager.hear_until("WATCHDOG=1")
    os.kill(process.pid, signal.SIGSTOP)
    stat = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    while not manager.silent():
        pass
    time.sleep(0.5)  # more than the whole of the watchdog's time; nothing to wait for: it must stay silent
    assert manager.silent()
    os.kill(process.pid, signal.SIGCONT)
    manager.socket.settimeout(20)
    manager.hear_until("WATCHDOG=1")
    stop(process)
