"""System calls of an agent's process: which it makes, and what happens when one of them kills it or fails."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple

import pytest

HARMLESS: Final = re.compile(
    r"access|arch_prctl|brk|clock_\w+|close|dup[23]?|epoll_\w+|exit_group|faccessat2?|fcntl|fstat|fstatfs|futex|"
    r"get\w+|ioctl|lseek|lstat|madvise|mmap|mprotect|mremap|munmap|newfstatat|pidfd_open|poll|ppoll|prctl|pread64|"
    r"prlimit64|read|readlink|readlinkat|rt_sig\w+|select|set\w+|sigaltstack|stat|statfs|statx|sysinfo|uname|wait4|waitid"
)
"""Calls that change neither the disk nor what another machine sees. Every other call is a place where it may end."""
WRITES: Final = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")


Until = Callable[[], bool]


class Place(NamedTuple):
    """The `n`-th time (from 1) that a process makes a call."""

    call: str
    n: int

    def __str__(self) -> str:
        return f"{self.call} {self.n}"


class Ending(NamedTuple):
    """How a process ended: its exit code (negative: by which signal), and what it said on stderr."""

    code: int
    said: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


def cannot_trace() -> str:
    """Why nothing can be traced here, or nothing."""
    if shutil.which("strace") is None:
        return "strace is missing (apt install strace)"
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return "this machine does not let a process be traced" if tried.returncode else ""


CANNOT_TRACE: Final = cannot_trace()
traced = pytest.mark.skipif(bool(CANNOT_TRACE), reason=CANNOT_TRACE)


def places(trace: str) -> list[Place]:
    """Return the places in a trace at which the process changes something, in their order."""
    counts: Counter[str] = Counter()
    found = []
    for line in trace.splitlines():
        call = re.match(r"([a-z_0-9]+)\(", line)
        if call is None or " = ? ERESTART" in line:
            continue
        counts[call[1]] += 1
        if HARMLESS.fullmatch(call[1]) or (call[1] in ("open", "openat") and not WRITES.search(line)):
            continue
        found.append(Place(call[1], counts[call[1]]))
    return found


class Nursery:
    """Runs `flaghoist-edge` commands in copies of a process, under strace."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kills.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment | {"PYTHONDONTWRITEBYTECODE": "1"},
        )

    def close(self) -> None:
        """End the process that is copied."""
        self._stdin.close()
        self._process.wait(60)
        self._stdout.close()

    def trace(self, arguments: list[str], until: Until | None = None) -> list[Place]:
        """Run a command to its end; return the places where it changes something."""
        output = self._folder / "trace"
        ending = self.run(arguments, ["-s", "0", "-o", str(output)], until)
        assert ending.code == 0, ending
        return places(output.read_text(errors="replace"))

    def kill_at(self, place: Place, arguments: list[str], until: Until | None = None) -> Ending:
        """Run a command that dies by SIGKILL as it makes a call."""
        return self.run(arguments, _inject(place.call, f"signal=KILL:when={place.n}"), until)

    def fail_at(self, place: Place, error: str, arguments: list[str]) -> Ending:
        """Run a command for which one call fails with `error`, like ENOSPC."""
        return self.run(arguments, _inject(place.call, f"error={error}:when={place.n}"))

    def run(
        self, arguments: list[str], tracer: list[str] | None = None, until: Until | None = None
    ) -> Ending:
        """Run a command, under strace with the options `tracer` if there are any.

        One that does not end by itself is told to (SIGTERM) once `until` holds.
        """
        stderr = self._folder / "stderr"
        stderr.unlink(missing_ok=True)
        self._stdin.write(json.dumps({"arguments": arguments, "stderr": str(stderr)}) + "\n")
        self._stdin.flush()
        pid = int(self._stdout.readline())
        with _ended(pid, until):
            if tracer is None:
                os.kill(pid, signal.SIGCONT)
                answer = self._stdout.readline().split()
            else:
                answer = self._traced(pid, tracer)
        return Ending(int(answer[1]), stderr.read_text(errors="replace"))

    def _traced(self, pid: int, tracer: list[str]) -> list[str]:
        strace = subprocess.Popen(
            ["strace", *tracer, "-p", str(pid)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        assert strace.stderr is not None
        with strace.stderr:
            attached = strace.stderr.readline()
            os.kill(pid, signal.SIGCONT)
            answer = self._stdout.readline().split()
            strace.wait(60)
            assert "attached" in attached, attached + strace.stderr.read()
        return answer

    @property
    def _stdin(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _stdout(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout


@contextlib.contextmanager
def _ended(pid: int, until: Until | None) -> Iterator[None]:
    """Meanwhile, tell the process to end once the condition holds."""
    over = threading.Event()

    def watch(holds: Until) -> None:
        while not over.wait(0.02):
            if holds():
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(process, signal.SIGTERM)
                return

    process = os.pidfd_open(pid)
    thread = threading.Thread(target=watch, args=(until,)) if until else None
    if thread:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if thread:
            thread.join()
        os.close(process)


def _inject(call: str, what: str) -> list[str]:
    return ["-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{what}"]
