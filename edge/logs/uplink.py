"""What of the agent's own log goes to the hub: lines from a level on, a bounded number a minute, while connected.

They are sent as they come, with QoS 0 and nothing kept: what happened without a connection stands in `agent.log`, and
in the diagnostics that the hub may ask for. Lines of the update process are read from that file when it has spoken.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal

from edge.config import Paths, Settings
from edge.logs import book
from topics.messages import LogLine

Level = Literal["debug", "info", "warning", "error"]
NAMES: Final[dict[str, Level]] = {
    "DEBUG": "debug",
    "INFO": "info",
    "WARNING": "warning",
    "ERROR": "error",
    "CRITICAL": "error",
}
_LINE: Final = re.compile(rf"(\S+Z) ([A-Z]+) {book.UPDATE}: (.*)")
_OFF: Final = 1000
"""Above every level that a record can have."""


class Uplink(logging.Handler):
    """Hands lines to `send`, which drops them while there is no connection. `steady` is a monotonic clock in s."""

    def __init__(
        self, paths: Paths, settings: Settings, send: Callable[[LogLine], None], steady: Callable[[], float]
    ) -> None:
        least = (
            _OFF
            if settings.log_level == "off"
            else logging.getLevelNamesMapping()[settings.log_level.upper()]
        )
        super().__init__(least)
        self._path = book.place(paths)
        self._send, self._steady = send, steady
        self._least, self._per_minute = least, float(settings.log_lines_per_minute)
        self._tokens, self._filled_at = self._per_minute, steady()
        self._left_out = 0
        self._read = self._end()

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record of this process."""
        level = NAMES.get(record.levelname, "info")
        self._pass_on(LogLine(at=max(0, int(record.created)), text=book.one_line(record), level=level))

    def catch_up(self) -> None:
        """Send what the update process has written since the last call."""
        _, size = end = self._end()
        inode, read = self._read
        start = read if end[0] == inode and read <= size else 0
        self._read = end
        if size == start:
            return
        for line in self._lines(start, size - start):
            found = _LINE.fullmatch(line)
            if found and logging.getLevelNamesMapping().get(found[2], 0) >= self._least:
                level = NAMES.get(found[2], "info")
                self._pass_on(LogLine(at=_at(found[1]), text=found[3], level=level, source=book.UPDATE))

    def _pass_on(self, line: LogLine) -> None:
        if not self._may():
            self._left_out += 1
            return
        if self._left_out:
            told = f"{self._left_out} lines before this one were left out, at more than {self._per_minute:g} a minute"
            self._left_out = 0
            self._send(LogLine(at=line.at, text=told, level="warning"))
        self._send(line)

    def _may(self) -> bool:
        """Take one of the lines that a minute has."""
        now = self._steady()
        refilled = self._tokens + (now - self._filled_at) * self._per_minute / 60
        self._tokens, self._filled_at = min(self._per_minute, refilled), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _end(self) -> tuple[int, int]:
        """Return which file it is, and its size."""
        try:
            status = self._path.stat()
        except OSError:
            return 0, 0
        return status.st_ino, status.st_size

    def _lines(self, start: int, size: int) -> list[str]:
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return []
        try:
            data = os.pread(handle, size, start)
        finally:
            os.close(handle)
        return data.decode(errors="replace").splitlines()


def _at(stamp: str) -> int:
    return max(0, int(datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()))
