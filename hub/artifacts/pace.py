"""A ceiling on the bytes that leave the hub a second, shared by all downloads.

>>> pace = Pace(1000)
>>> pace.wait(0.0, 500), pace.wait(0.0, 500), pace.wait(0.0, 500)
(0.0, 0.5, 1.0)
>>> pace.wait(9.0, 500)
0.0
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class Pace:
    """At most `rate` bytes a second, 0 for as many as there are."""

    def __init__(self, rate: int = 0) -> None:
        self._rate = rate
        self._free_at = 0.0

    def wait(self, now: float, size: int) -> float:
        """Return how many seconds to wait at `now` (s) before sending `size` bytes, which are booked."""
        if not self._rate:
            return 0.0
        begin = max(self._free_at, now)
        self._free_at = begin + size / self._rate
        return begin - now


class Ceiling:
    """Holds downloads back as a `Pace` says. `now` is a monotonic clock in s."""

    def __init__(
        self,
        rate: int = 0,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._pace = Pace(rate)
        self._now = now
        self._sleep = sleep

    async def take(self, size: int) -> None:
        """Wait until `size` bytes may go."""
        if wait := self._pace.wait(self._now(), size):
            await self._sleep(wait)
