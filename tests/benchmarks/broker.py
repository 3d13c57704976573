"""A Mosquitto for measuring: the hub's limits, one listener without TLS on loopback and one with."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from hub.broker.credentials import Credentials
from hub.identity.ca import open_authorities
from tests.support.mosquitto import wait_until
from tests.support.ports import held_port

ROOT = Path(__file__).parents[2]
FLEET = "acme"
FILTER = f"{FLEET}/v1/devices/+/up/status"
SUBSCRIBER = "svc.dashboard"
"""Who `mosquitto_sub` is."""

_CONFIG = """\
per_listener_settings false
allow_anonymous true
persistence false
max_queued_messages 10000000
max_queued_bytes 8000000000
max_inflight_messages {inflight}
set_tcp_nodelay true
log_type error
user root
listener {plain} 127.0.0.1
listener {tls} 127.0.0.1
cafile {folder}/ca.pem
certfile {folder}/server.pem
keyfile {folder}/server.key
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
"""


class Drained(NamedTuple):
    """One drain: messages/s, CPU s per million messages, peak resident memory in MB."""

    rate: float
    cpu: float
    memory: float


class Broker:
    """Runs until the `with` ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port, self.tls_port = held_port(), held_port()
        now = int(time.time())
        authority = open_authorities(folder / "ca", FLEET, now=now).service
        (folder / "ca.pem").write_text(authority.pem)
        _write_pair(folder / "server", authority.issue_server([], now=now))
        for name in (SUBSCRIBER, "svc.ingest-0"):
            _write_pair(folder / name, authority.issue_service(name, now=now))
        # 0 is "no limit"; it is what serves mosquitto_sub best.
        text = _CONFIG.format(inflight=0, plain=self.port, tls=self.tls_port, folder=folder)
        (folder / "mosquitto.conf").write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(["mosquitto", "-c", self.folder / "mosquitto.conf"])
        wait_until(lambda: _answers(self.port), what="Mosquitto")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()

    def files(self, name: str) -> Credentials:
        """TLS files of a service."""
        return Credentials(self.folder / "ca.pem", self.folder / f"{name}.pem", self.folder / f"{name}.key")

    def fill(
        self, devices: int, messages: int, boot: int = 1, *, first: int = 1, rate: int = 0, bad: int = 0
    ) -> subprocess.Popen[bytes]:
        """Start a process that publishes heartbeats; it ends when every one is PUBACKed."""
        command = [sys.executable, "-m", "tests.benchmarks.fill", str(self.port), str(devices), str(messages)]
        return subprocess.Popen([*command, str(boot), str(first), str(rate), str(bad)], cwd=ROOT)

    def mosquitto_sub(self, messages: int, *, tls: bool = False) -> Drained:
        """Drain with `mosquitto_sub` to /dev/null; 0 messages make the session only."""
        files = self.files(SUBSCRIBER)
        secure: list[str | Path] = (
            ["--cafile", files.ca, "--cert", files.certificate, "--key", files.key] if tls else []
        )
        command: list[str | Path] = [
            "mosquitto_sub",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.tls_port if tls else self.port),
            *secure,
        ]
        command += ["-V", "5", "-i", SUBSCRIBER, "-c", "-x", "86400", "-q", "1", "-t", FILTER]
        command += ["-C", str(messages)] if messages else ["-E"]
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        watching = Watch(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        spent = time.perf_counter() - began
        assert process.returncode == 0
        return drained(messages, spent, usage.ru_utime + usage.ru_stime, watching.peak_mb())


def drained(messages: int, seconds: float, cpu_seconds: float, memory_mb: float) -> Drained:
    """Return figures of one drain."""
    return Drained(messages / seconds, cpu_seconds / max(messages, 1) * 1e6, memory_mb)


def peak_mb(process: int | str = "self") -> float:
    """Return the peak resident memory of a running process, 0 once it has ended.

    `ru_maxrss` would begin with what the parent had when it forked.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


class Watch:
    """Looks at the memory of another program while it runs."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._peak = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while found := peak_mb(self._process):
            self._peak = max(self._peak, found)
            time.sleep(0.02)

    def peak_mb(self) -> float:
        """Return the peak, after the program's end."""
        self._thread.join()
        return self._peak


def _write_pair(path: Path, pair: Any) -> None:
    certificate, key = pair
    path.with_name(path.name + ".pem").write_text(certificate)
    path.with_name(path.name + ".key").write_text(key)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
