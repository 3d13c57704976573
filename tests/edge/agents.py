"""Releases that carry a build of the agent, and a service manager that keeps an agent running."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from edge import VERSION
from tests.edge.rig import SERVICE
from tests.edge.world import Built, build

ROOT = Path(__file__).parents[2]
NEW = "9.9.9"
"""Version of the agent that comes with a release."""


def packages(changes: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files of a build: this repository's own, as `pip install --no-deps --target` would lay them out.

    `changes` are added to the ends of modules.
    """
    files = {}
    for package in ("edge", "topics", "firmware_hooks"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                files[path.relative_to(ROOT).as_posix()] = path.read_bytes()
    version = f'VERSION: Final = "{VERSION}"'
    about = files["edge/__init__.py"].decode()
    assert version in about
    files["edge/__init__.py"] = about.replace(version, f'VERSION: Final = "{NEW}"').encode()
    for name, text in changes.items():
        files[name] += text.encode()
    return files


def release(sequence: int, changes: Mapping[str, str] = {}, *, hook: str = "exec") -> Built:
    """Return a release of a service that carries a new agent."""
    agent = {f"files/agent/{path}": data for path, data in packages(changes).items()}
    about = {"exec": {"command": ["files/bin/service"], "stop_seconds": 2}} if hook == "exec" else {}
    return build(sequence, {"files/bin/service": SERVICE, **agent}, hook=hook, info=about)


class Manager:
    """Keeps a command running as systemd would with Restart=always; `kill` ends its whole process group."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self._command, self._environment, self._log = command, dict(environment), log
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.starts = 0
        self._process = self._start()
        self._thread = threading.Thread(target=self._keep)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End everything that the unit runs, at once, and start it anew."""
        with self._lock:
            os.killpg(self._process.pid, signal.SIGKILL)

    def stop(self) -> None:
        self._stopping.set()
        with self._lock:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._thread.join()
        print(self._log.read_text())

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command, env=self._environment, stderr=log, stdout=log, start_new_session=True
            )

    def _keep(self) -> None:
        while True:
            self._process.wait()
            with self._lock:
                if self._stopping.is_set():
                    return
                self._process = self._start()
