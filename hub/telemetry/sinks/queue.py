"""A bounded queue that never makes its writer wait: when it is full the oldest line goes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

Line = tuple[str, str, bytes, str | None, int]
"""One report as it came: kind, device id, body, content type (None: sniffed), received at (ms). A plain tuple, since
ingest makes one for every message."""

MAX_LINES: Final = 20_000
MAX_BYTES: Final = 8 * 1024 * 1024
ENOUGH: Final = 500
"""Lines that are worth waking the reader for before its time."""
_BODY: Final = 2


class Queue:
    """Many writers, one reader. Holds at most `max_lines`, with at most `max_bytes` in their bodies."""

    def __init__(self, *, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES) -> None:
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._lines: deque[Line] = deque()
        self._bytes = 0
        self._any = threading.Event()
        self._enough = threading.Event()
        self.overflowed = 0
        """Lines that had to go because newer ones came."""

    def __len__(self) -> int:
        return len(self._lines)

    def put(self, lines: Sequence[Line]) -> None:
        """Add `lines`, oldest first. Quick, from any thread."""
        with self._lock:
            excess = max(0, len(lines) - self._max_lines)
            self._lines.extend(lines[excess:] if excess else lines)
            self._bytes += sum([len(line[_BODY]) for line in lines[excess:]])
            while len(self._lines) > self._max_lines or self._bytes > self._max_bytes:
                self._bytes -= len(self._lines.popleft()[_BODY])
                excess += 1
            self.overflowed += excess
            held = len(self._lines)
            # Setting what is set already costs as much as all the rest.
            if held and not self._any.is_set():
                self._any.set()
            if held >= ENOUGH and not self._enough.is_set():
                self._enough.set()

    def skip(self, lines: int) -> None:
        """Count `lines` that are lost before they were added, since there are more than could be written."""
        with self._lock:
            self.overflowed += lines

    def take(self, max_lines: int, max_bytes: int) -> list[Line]:
        """Return and remove the oldest lines, at least one if there is any; may be empty."""
        taken: list[Line] = []
        size = 0
        with self._lock:
            while self._lines and len(taken) < max_lines:
                size += len(self._lines[0][_BODY])
                if taken and size > max_bytes:
                    break
                line = self._lines.popleft()
                self._bytes -= len(line[_BODY])
                taken.append(line)
            if not self._lines:
                self._any.clear()
            if len(self._lines) < ENOUGH:
                self._enough.clear()
        return taken

    def wait(self, *, linger: float, timeout: float) -> None:
        """Return when there is something, and either enough of it or `linger` seconds have passed; or after
        `timeout` seconds with nothing."""
        if self._any.wait(timeout):
            self._enough.wait(linger)

    def wake(self) -> None:
        """End the present `wait` at once."""
        self._any.set()
        self._enough.set()
