"""A ceiling on the bytes that leave the hub a second, shared by all downloads.

>>> pace = Pace(1000)
>>> pace.wait(0.0, 500), pace.wait(0.0, 500), pace.wait(0.0, 500)
(0.0, 0.5, 1.0)
>>> pace.wait(9.0, 500)
0.0
"""

from __future__ import annotations


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
