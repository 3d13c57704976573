"""What keeps a device's token, once it was read along, from speaking for the device.

A token that names the body it is for (`topics.devicetoken.Claims.body`) needs no memory: it can bring that body again,
and reports that come twice count once. Tokens of agents that name no body are good for one post each. They are
remembered for as long as they are valid: at most `MOST` of them, and `MOST_EACH` of one device, then further ones are
refused for a while, since forgetting early would let them come again.
"""

from __future__ import annotations

import hmac
import threading
from collections import Counter
from typing import Final

from hub.errors import TooMany, Unauthorised
from topics import devicetoken
from topics.devicetoken import LEEWAY, LIFETIME, Claims

SPAN: Final = LIFETIME + 2 * LEEWAY
"""Seconds after which no token is valid any longer, whenever within its life it was first seen."""
MOST: Final = 100_000
MOST_EACH: Final = 2_000


class Replays:
    """The tokens of posts that were seen. Safe to use from several threads."""

    def __init__(self, most: int = MOST, most_each: int = MOST_EACH) -> None:
        self._most, self._most_each = most, most_each
        self._lock = threading.Lock()
        self._began = 0
        self._seen: set[int] = set()
        self._before: set[int] = set()
        self._counts: Counter[str] = Counter()

    def check(self, claims: Claims, body: bytes, now: int) -> None:
        """Let a post by the token of `claims` pass at `now` (s), once or for its body.

        Raises `Unauthorised` (`token_body`, `token_used`) and `TooMany` (`token_memory`).
        """
        if claims.body:
            if not hmac.compare_digest(claims.body, devicetoken.digest(body)):
                raise Unauthorised("The device token is for another body.", rule="token_body")
            return
        with self._lock:
            self._count(claims, now)

    def _count(self, claims: Claims, now: int) -> None:
        if not self._began <= now < self._began + SPAN:
            # Two spans, since a token that was seen at the end of one is valid in the next. Both are kept however far
            # the clock was set: that forgets nothing.
            self._before, self._seen = self._seen, set()
            self._counts.clear()
            self._began = now
        name = hash((claims.sub, claims.jti))
        if name in self._seen or name in self._before:
            raise Unauthorised(
                "The device token was used for another post already; make one for each.", rule="token_used"
            )
        if len(self._seen) >= self._most or self._counts[claims.sub] >= self._most_each:
            wait = max(1, self._began + SPAN - now)
            raise TooMany(
                f"More tokens of posts than are remembered; make tokens that name their body, or wait {wait} s.",
                rule="token_memory",
                retry_after=wait,
            )
        self._seen.add(name)
        self._counts[claims.sub] += 1
