"""Since when devices have been heard without a break, by a wall clock that may jump.

Who is silent is judged by it: nobody is lost or offline for what the hub itself did not hear. So it begins anew

- with a jump of the wall clock (it was set, or the machine slept): an hour forward would make every device silent for
  an hour;
- when nobody has confirmed for `STALE_S` that everything is heard: ingest is behind, a commit takes very long, or the
  process stood still and whoever judges woke up before ingest did.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

JUMP_MS: Final = 5_000
"""By how much wall and steady clock may part between two looks. Looks are at most half a minute apart, in which a
clock that is being slewed gains or loses 15 ms."""
STALE_S: Final = 60.0
"""Ingest confirms at every turn, which is twice a minute at least."""


class Observed:
    """Thread-safe. `now` gives ms since the epoch, `steady` s of a clock that is never set."""

    def __init__(self, now: Callable[[], int], steady: Callable[[], float]) -> None:
        self._now = now
        self._steady = steady
        self._lock = threading.Lock()
        self._since: int | None = None
        self._apart = self._confirmed = 0.0

    def begin(self) -> None:
        """Begin, or confirm, that everything that devices have said is heard."""
        with self._lock:
            now = self._look()
            if self._since is None:
                self._since = now
            self._confirmed = self._steady()

    def end(self) -> None:
        """From now on devices may say what is not heard."""
        with self._lock:
            self._since = None

    @property
    def since(self) -> int:
        """Since when (ms); the present while they are not heard."""
        with self._lock:
            now = self._look()
            return now if self._since is None else self._since

    def _look(self) -> int:
        now, steady = self._now(), self._steady()
        apart = now - steady * 1000
        jumped, is_stale = abs(apart - self._apart) > JUMP_MS, steady > self._confirmed + STALE_S
        if self._since is not None and (jumped or is_stale):
            self._since = now
        self._apart = apart
        return now
