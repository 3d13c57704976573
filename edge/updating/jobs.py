"""The update process as a child: a pipe tells of each transition, and its end of file of the child's end."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Protocol

from edge.config import Paths
from edge.errors import EdgeError

log = logging.getLogger("flaghoist")


def command(paths: Paths) -> list[str]:
    """Return the command line of the update process."""
    return [
        sys.executable,
        "-m",
        "edge.main",
        "update",
        "--state",
        str(paths.root),
        "--hooks",
        str(paths.hooks),
        "--parent",
        str(os.getpid()),
    ]


class Started(Protocol):
    """A process, as far as it is needed here."""

    def wait(self) -> int:
        """Return the exit code once it has ended."""

    def kill(self) -> None:
        """End it."""


class Child:
    """Runs one update process at a time."""

    def __init__(self, command: Callable[[], list[str]]) -> None:
        self._command = command
        self._process: Started | None = None
        # A file object, not its number: the next pipe often gets the same number.
        self._pipe: io.FileIO | None = None

    @property
    def busy(self) -> bool:
        """Whether it runs."""
        return self._process is not None

    @property
    def pipe(self) -> io.FileIO | None:
        """The pipe to watch for reading."""
        return self._pipe

    def start(self) -> None:
        """Start it. Raises `OSError`."""
        reading, writing = os.pipe()
        try:
            self._process = self._begin(writing)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._pipe = io.FileIO(reading)

    def _begin(self, writing: int) -> Started:
        command = [*self._command(), "--tell", str(writing)]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(writing,))

    def readable(self) -> int | None:
        """Read the pipe; return the exit code once the process has ended, else None."""
        if self._pipe is None or self._process is None or self._pipe.read(4096):
            return None
        self._pipe.close()
        code = self._process.wait()
        self._pipe = self._process = None
        return code

    def kill(self) -> None:
        """End it at once; the state on disk says how to go on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._pipe is not None:
            self._pipe.close()
        self._pipe = self._process = None


class Forked(Child):
    """Runs it as a copy of this process: `once`, which ends soon, need not load Python and the agent twice.

    Not for `run`: its update process would carry a connection and the agent's memory along for as long as it takes.
    """

    def __init__(self, work: Callable[[int, int], int]) -> None:
        """`work` is given the pipe and this process's id, and returns the exit code."""
        super().__init__(list)
        self._work = work

    def _begin(self, writing: int) -> Started:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return _Copy(pid)
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            # The agent's own handlers would write, and send, each line a second time.
            logging.getLogger().handlers.clear()
            code = self._work(writing, parent)
        except EdgeError as error:
            log.warning("%s", error)
            code = error.exit_code
        except Exception:
            log.exception("the update process's own fault")
        finally:
            os._exit(code)


class _Copy:
    """A forked process."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
