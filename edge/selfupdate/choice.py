"""Which build of the agent is to run, and what the next start makes of it. The rules are pure.

A build is named by the hash of its files; "" is the agent that was installed on the machine.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import msgspec

from edge.config import Paths
from edge.storage import records

TRIES: Final = 3
"""Starts in a row that a build has to come up in."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """`chosen` has proven itself. `trial` has to, within `seconds` of each start. `starts` counts starts of the wanted
    one: of a trial all, of the chosen one those in a row that it did not come up in. `failed` is the build that was on
    trial last and never came up."""

    chosen: str = ""
    trial: str = ""
    seconds: float = 0.0
    starts: int = 0
    failed: str = ""

    @property
    def wanted(self) -> str:
        """The build that is to run now."""
        return self.trial or self.chosen


def next_start(held: Choice, *, came_up: bool) -> tuple[Choice, str]:
    """Return the choice as it stands at the next start, and the build to start. `came_up` tells of the last start.

    1. A trial that was started `TRIES` times is over: it failed, and the chosen build runs.
    2. A chosen build that did not come up `TRIES` times in a row rests for this start, and the installed agent runs: it
       may be at odds with the machine by now (another Python), and somebody has to be reachable.
    3. Every other start of a build is counted before it.
    """
    starts = 0 if came_up and not held.trial else held.starts
    if held.trial and starts >= TRIES:
        held, starts = records.changed(held, trial="", seconds=0.0, failed=held.trial), 0
    build = held.wanted
    if not build or starts >= TRIES:
        return records.changed(held, starts=0), ""
    return records.changed(held, starts=starts + 1), build


def home(paths: Paths) -> Path:
    """Folder of builds and of the choice."""
    return paths.root / "agent"


def folder(paths: Paths, build: str) -> Path:
    """Folder of one build."""
    return home(paths) / build


def load(paths: Paths) -> Choice:
    """Return the choice; with none, or none that is whole, it is the installed agent. Raises `NotReady`."""
    held, _ = records.load(home(paths) / "choice", Choice)
    return held or Choice()


def save(paths: Paths, held: Choice) -> None:
    """Make the choice durable. Raises `OSError`."""
    home(paths).mkdir(mode=0o700, exist_ok=True)
    records.save(home(paths) / "choice", held)


def note(paths: Paths, what: str, build: str) -> None:
    """Note that `build` came `up`, or `reached` the hub, since its last start. A disk that refuses is passed over."""
    with contextlib.suppress(OSError):
        (home(paths) / what).write_text(build)


def noted(paths: Paths, what: str) -> str:
    """Return the build of a note, "" without one."""
    try:
        return (home(paths) / what).read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def forget_notes(paths: Paths) -> None:
    """Remove the notes before a start. Raises `OSError`."""
    for what in ("up", "reached"):
        (home(paths) / what).unlink(missing_ok=True)
