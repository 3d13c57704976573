"""How the connection stands, in a small file: what another process can tell a technician without asking the broker.

Two connections of one device throw each other out, so nobody may try the link while the agent holds it.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from edge.config import Paths


class LinkNote:
    """Writes the note; a disk that refuses is passed over, and nothing is forced to disk: it is about now."""

    def __init__(self, paths: Paths) -> None:
        self._path = place(paths)
        self._last: tuple[bool, str] | None = None
        self._contact = last_contact(paths)

    def write(self, wall: int, *, connected: bool, reason: str) -> None:
        """Say since when (s) it stands so; the same again is not written."""
        if self._last == (connected, reason):
            return
        if connected or (self._last is not None and self._last[0]):
            self._contact = wall
        self._last = (connected, reason)
        note = {"connected": connected, "reason": reason, "since": wall, "contact": self._contact}
        beside = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            beside.write_text(json.dumps(note))
            beside.replace(self._path)


def place(paths: Paths) -> Path:
    """Where the note is."""
    return paths.run / "link.json"


def last_contact(paths: Paths) -> int | None:
    """Return when (s) a connection last stood, as far as it was noted; None when none ever did."""
    try:
        return int(json.loads(place(paths).read_text())["contact"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read(paths: Paths) -> tuple[bool, str, int] | None:
    """Return (connected, reason, since when in s), or None without a note."""
    try:
        note = json.loads(place(paths).read_text())
        return bool(note["connected"]), str(note["reason"]), int(note["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
