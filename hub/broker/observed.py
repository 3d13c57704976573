"""Since when devices have been heard without a break, by a wall clock that may jump.

Who is silent is judged by it: nobody is lost or offline for what the hub itself did not hear. When the wall clock
jumps (it was set, or the machine slept) the time before the jump cannot be compared with the time after it: an hour
forward would make every device silent for an hour. So observed time begins anew with a jump.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

JUMP_MS: Final = 5_000
"""By how much wall and steady clock may part between two looks. Looks are at most half a minute apart, in which a
clock that is being slewed gains or loses 15 ms."""


class Observed:
    """Thread-safe. `now` gives ms since the epoch, `steady` s of a clock that is never set."""

    def __init__(self, now: Callable[[], int], steady: Callable[[], float]) -> None:
        self._now = now
        self._steady = steady
        self._lock = threading.Lock()
        self._since: int | None = None
        self._apart = 0.0

    def begin(self) -> None:
        """Everything that devices said has been heard; nothing changes when that was so before."""
        with self._lock:
            now = self._look()
            if self._since is None:
                self._since = now

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
        now = self._now()
        apart = now - self._steady() * 1000
        if self._since is not None and abs(apart - self._apart) > JUMP_MS:
            self._since = now
        self._apart = apart
        return now
