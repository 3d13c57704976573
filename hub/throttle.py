"""How often one caller may ask: counted per minute in memory, so that nobody who floods the hub is at others' expense.

What counts is who asks, once that is known: an operator's key by its name, a device by its id. A whole shop comes from
one address, so an address counts only for what needs no credentials, and for credentials that are wrong. Behind a
proxy all callers come from its address, since no header of a proxy is believed; it has limits of its own for them.
"""

from __future__ import annotations

import time
from typing import Final, Literal

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from hub.errors import TooMany

REQUESTS: Final = 6_000
"""Requests a minute, by default: a hundred a second is more than any console or agent needs."""
FAILURES: Final = 60
"""Wrong credentials a minute from one address. A guess has to hit 256 bits; this keeps the log readable."""


class Throttle:
    """Counts requests. `per_minute` is what one caller may ask; 0 counts nothing at all."""

    def __init__(self, per_minute: int = REQUESTS) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._failures = RateLimitItemPerMinute(FAILURES) if per_minute else None
        self._requests = RateLimitItemPerMinute(per_minute) if per_minute else None

    def count(self, kind: Literal["address", "device", "operator"], name: str) -> None:
        """Count a request. Raises `TooMany`, with the seconds to wait, once there were more than may be."""
        if self._requests is not None:
            self._hit(self._requests, kind, name, "This is more than one caller may ask in a minute")

    def count_failure(self, address: str) -> None:
        """Count wrong credentials from an address. Raises `TooMany`."""
        if self._failures is not None:
            self._hit(self._failures, "failure", address, "Too many wrong credentials came from this address")

    def _hit(self, item: RateLimitItem, kind: str, name: str, why: str) -> None:
        if self._limiter.hit(item, kind, name):
            return
        reset = self._limiter.get_window_stats(item, kind, name).reset_time
        wait = max(1, round(reset - time.time()))
        raise TooMany(f"{why}; try again in {wait} s.", rule="rate_limit", retry_after=wait)
