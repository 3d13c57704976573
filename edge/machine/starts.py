"""Starts of the agent that did not last, in a row: a boot loop, which safe mode ends.

Clocks are not asked (after a power cut many stand in 1970): what counts is whether each run lasted, on a clock that
never steps. What is counted stands in `starts` in the state directory.

A run of `once` lasts as soon as it has done all that it started for, also when it reached nobody: what switches the
machine off after that may be what switches it on for the next run. One that never gets there, boot after boot, is a
loop.
"""

from __future__ import annotations

import contextlib
from typing import Final

import msgspec

from edge.config import Paths, Settings
from edge.storage import records


class Starts(msgspec.Struct, frozen=True, kw_only=True):
    """`count` starts in a row that did not last, the last of them in the boot `boot` of the machine; `ended` says that
    it ended in good order, `lasted` that it lived long enough."""

    count: int = 0
    boot: str = ""
    ended: bool = False
    lasted: bool = False


NONE: Final = Starts()


def counted(before: Starts, boot: str, *, under_way: bool) -> Starts:
    """Return the starts with one more, in the boot `boot`. Pure. Rules:

    1. While an update is under way nothing counts: its interruptions are counted by the update itself, and a power
       switch that is played with must not cost a good release its tries twice.
    2. A run that lasted breaks the row.
    3. So does one that ended in good order, if the machine is still in the same boot: somebody stopped the agent. When
       the machine has restarted since, it may be what keeps restarting it that ended the agent so politely.
    4. Every other start counts.
    """
    if under_way:
        return Starts(boot=boot)
    broken = before.lasted or (before.ended and before.boot == boot)
    return Starts(count=1 if broken else before.count + 1, boot=boot)


def is_loop(starts: Starts, limit: int) -> bool:
    """Whether so many starts in a row did not last that safe mode is to be entered; `limit` 0 is never."""
    return 0 < limit <= starts.count


class Watch:
    """The present run among the starts. A disk that refuses is passed over: nothing is counted then."""

    def __init__(self, paths: Paths, settings: Settings) -> None:
        self._path = paths.root / "starts"
        self._limit, self._seconds = settings.boot_loop_starts, settings.boot_loop_seconds
        self._now = NONE
        self._due: float | None = None

    def begin(self, boot: str, steady: float, *, under_way: bool) -> bool:
        """Count this start at `steady` (s, monotonic); return whether it is one too many. Raises `NotReady`."""
        before, _ = records.load(self._path, Starts)
        self._due = steady + self._seconds
        self._keep(counted(before or NONE, boot, under_way=under_way))
        return is_loop(self._now, self._limit)

    def forget(self) -> None:
        """Begin a new row: safe mode has been entered, and leaving it deserves as many tries."""
        self._keep(Starts(boot=self._now.boot))

    @property
    def reason(self) -> str:
        """What is wrong when there is one start too many."""
        return f"boot loop: {self._now.count} starts in a row did not last {self._seconds:g} s"

    @property
    def deadline(self) -> float | None:
        """When this run has lasted, on the monotonic clock; None once it has."""
        return self._due

    def turned(self, steady: float) -> None:
        """Time has passed."""
        if self._due is not None and steady >= self._due:
            self._due = None
            self._keep(records.changed(self._now, lasted=True))

    def done(self) -> None:
        """The agent has done all that it started for."""
        self._due = None
        self._keep(records.changed(self._now, lasted=True))

    def end(self) -> None:
        """The agent ends in good order, because somebody stopped it."""
        self._keep(records.changed(self._now, ended=True))

    def _keep(self, changed: Starts) -> None:
        self._now = changed
        with contextlib.suppress(OSError):
            records.save(self._path, changed)


def row(paths: Paths) -> int:
    """Return how many starts in a row did not last, for a technician. Raises `NotReady`."""
    starts, _ = records.load(paths.root / "starts", Starts)
    return 0 if starts is None or starts.lasted else starts.count
