"""The update process as a child: a pipe tells of each transition, and its end of file of the child's end."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable

from edge.config import Paths


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


class Child:
    """Runs one update process at a time."""

    def __init__(self, command: Callable[[], list[str]]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
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
            self._process = subprocess.Popen(
                [*self._command(), "--tell", str(writing)], stdin=subprocess.DEVNULL, pass_fds=(writing,)
            )
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._pipe = io.FileIO(reading)

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
