"""The agent's last log lines in a small file, `run/agent.log`: what a technician and the hub's operators ask for first.

Agent and update process both append to it, a whole line at a time. At `LIMIT` bytes the file gives way to a new one and
stays beside it as `agent.log.before`, so at most twice as much of the disk is used. Nothing is forced to disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from pathlib import Path
from typing import Final

from edge.config import Paths

LIMIT: Final = 64 * 1024
MAX_LINE: Final = 1000
AGENT, UPDATE = "agent", "update"


def place(paths: Paths) -> Path:
    """Where the newest lines are."""
    return paths.run / "agent.log"


def before(paths: Paths) -> Path:
    """Where the lines before those are."""
    return paths.run / "agent.log.before"


def setup(paths: Paths, source: str) -> None:
    """Log on standard error and in the file; `source` is `AGENT` or `UPDATE`."""
    prefix = "" if source == AGENT else f"{source}: "
    logging.basicConfig(
        level=logging.INFO, format=f"%(asctime)s %(levelname)s {prefix}%(message)s", stream=sys.stderr
    )
    known = [handler for handler in logging.getLogger().handlers if isinstance(handler, Book)]
    if not known:
        logging.getLogger().addHandler(Book(paths, source))


class Book(logging.Handler):
    """Appends to the file. A disk that refuses is passed over: a log line stops nothing."""

    def __init__(self, paths: Paths, source: str) -> None:
        super().__init__()
        self._paths, self._source = paths, source

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record as one line."""
        line = f"{stamp(record.created)} {record.levelname} {self._source}: {one_line(record)}\n"
        with contextlib.suppress(OSError):
            handle = os.open(
                place(self._paths),
                os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
                0o600,
            )
            try:
                os.write(handle, line.encode(errors="replace"))
                full = os.fstat(handle).st_size > LIMIT
            finally:
                os.close(handle)
            if full:
                place(self._paths).replace(before(self._paths))


def one_line(record: logging.LogRecord) -> str:
    """Return what a record says, and the kind of its exception, without line breaks."""
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        text += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
    return " ".join(text.split()).replace("\0", "")[:MAX_LINE]


def stamp(seconds: float) -> str:
    """Return a time as it stands in the file."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def last(paths: Paths, lines: int) -> list[str]:
    """Return the last lines of both processes, oldest first; none when there is no file, or none that can be read."""
    found: list[str] = []
    for path in (before(paths), place(paths)):
        with contextlib.suppress(OSError):
            found += path.read_text(encoding="utf-8", errors="replace").splitlines()
    return found[-lines:]
