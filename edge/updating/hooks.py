"""Running hooks and checks: other people's programs, under a time limit.

Exit 0 is ok, 75 (EX_TEMPFAIL) means try later, 76 that it takes effect once the machine was restarted, anything else
failed; the last line on stderr is the reason. A machine that has no room to start a program (disk, memory, processes,
open files) is no fault of the program: try later. At the limit the whole process group is killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from edge import config
from edge.config import Paths, Settings
from edge.errors import Stop
from edge.updating import secrets
from edge.updating.secrets import Secrets

LATER: Final = 75
RESTART: Final = 76
NO_SECRETS: Final = Secrets()
CANNOT_RUN: Final = 126
_PROGRAMS_FAULT: Final = frozenset(
    (
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EACCES,
        errno.EPERM,
        errno.ENOEXEC,
        errno.ELOOP,
        errno.E2BIG,
    )
)
Verb = Literal["probe", "install", "activate", "confirm", "rollback", "safe-mode"]
_PASSED: Final = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "DOCKER_HOST")


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended. `reason` is "" when it is ok."""

    code: int
    reason: str

    @property
    def ok(self) -> bool:
        """Whether it did what it was asked."""
        return self.code == 0

    @property
    def later(self) -> bool:
        """Whether it asks to be tried again."""
        return self.code == LATER

    @property
    def restart(self) -> bool:
        """Whether it asks for a restart of the machine."""
        return self.code == RESTART


@dataclass(frozen=True, slots=True)
class Place:
    """What a hook is told: the release it acts for, and the one before."""

    release_id: str
    hook: str
    previous_id: str = ""


class Hooks:
    """Hooks and checks of one device. `variables` are its local ones; `secrets` are what no reason may show."""

    def __init__(
        self,
        paths: Paths,
        *,
        device_id: str,
        role: str,
        variables: Mapping[str, str],
        seconds: float,
        secrets: Secrets = NO_SECRETS,
    ) -> None:
        self._paths = paths
        self._secrets = secrets
        self._seconds = seconds
        self._base = {name: os.environ[name] for name in _PASSED if name in os.environ}
        self._base |= variables
        self._base |= {
            "FLAGHOIST_DEVICE_ID": device_id,
            "FLAGHOIST_ROLE": role,
            "FLAGHOIST_STATE_DIR": str(paths.root),
            "FLAGHOIST_RUN_DIR": str(paths.run),
        }

    @classmethod
    def of(cls, paths: Paths, settings: Settings, *, device_id: str, role: str, seconds: float) -> Hooks:
        """Return the hooks of the device at `paths`, with what its own files say. Raises `NotReady`."""
        return cls(
            paths,
            device_id=device_id,
            role=role,
            variables=config.load_variables(paths.root),
            seconds=seconds,
            secrets=secrets.of(paths, settings),
        )

    def find(self, hook: str) -> Path:
        """Return the executable of a hook; raises `Stop` when this device has none of that name."""
        path = self._paths.hooks / hook
        if not os.access(path, os.X_OK) or not path.is_file():
            raise Stop(f"this device has no hook {hook!r} in {self._paths.hooks}")
        return path

    def call(self, verb: Verb, place: Place, *, items: Path | None = None) -> Result:
        """Run one verb of a hook, which may add to the file `items` what differs. Never raises: a hook that cannot run
        has failed."""
        try:
            program = self.find(place.hook)
        except Stop as stop:
            return Result(127, stop.reason)
        told = {"FLAGHOIST_ITEMS": str(items)} if items else {}
        return self._run([str(program), verb], place, self._seconds, told)

    def check(self, script: Path, place: Place, seconds: float) -> Result:
        """Run one of the release's own `validate/` scripts."""
        return self._run([str(script)], place, seconds, {})

    def masked(self, text: str) -> str:
        """Return what a program said without the values of secrets."""
        return self._secrets.masked(text) if text else ""

    def _run(self, command: list[str], place: Place, seconds: float, more: Mapping[str, str]) -> Result:
        environment = {**self.environment(place), **more}
        result = run(command, environment, self._paths.run, self._cwd(place), seconds)
        return Result(result.code, self.masked(result.reason))

    def environment(self, place: Place) -> dict[str, str]:
        """Return the variables that hooks, checks and services see."""
        paths = self._paths
        return self._base | {
            "FLAGHOIST_RELEASE_ID": place.release_id,
            "FLAGHOIST_RELEASE_DIR": str(paths.release(place.release_id)),
            "FLAGHOIST_ENV_DIR": str(paths.rendered(place.release_id) / "env"),
            "FLAGHOIST_PREVIOUS_DIR": str(paths.release(place.previous_id)) if place.previous_id else "",
        }

    def _cwd(self, place: Place) -> Path:
        folder = self._paths.release(place.release_id)
        return folder if folder.is_dir() else self._paths.root


def patiently(
    call: Callable[[], Result], *, seconds: float, pause: float, sleep: Callable[[float], None] = time.sleep
) -> Result:
    """Return the result of `call`, asked again every `pause` seconds while it says later, for `seconds`."""
    end = time.monotonic() + seconds
    while True:
        result = call()
        if not result.later or time.monotonic() + pause > end:
            return result
        sleep(pause)


def run(
    command: list[str], environment: Mapping[str, str], scratch: Path, cwd: Path, seconds: float
) -> Result:
    """Run a program to its end or to the limit of `seconds`."""
    name = Path(command[0]).name
    label = f"{name} {command[1]}" if len(command) > 1 else name
    try:
        # A file, not a pipe: a service that kept the pipe open would hold us here for ever.
        with tempfile.TemporaryFile(dir=scratch) as errors:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
            try:
                code = process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return Result(124, f"{label} was stopped after {seconds:g} s")
            return Result(
                code, "" if code == 0 else _last_line(errors.fileno()) or f"{label} ended with {code}"
            )
    except OSError as error:
        code = CANNOT_RUN if error.errno in _PROGRAMS_FAULT else LATER
        return Result(code, f"{label} cannot run: {error.strerror}")


def _last_line(handle: int) -> str:
    size = os.lseek(handle, 0, os.SEEK_END)
    tail = os.pread(handle, 4096, max(0, size - 4096)).decode(errors="replace")
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    return lines[-1].replace("\0", "")[:500] if lines else ""
