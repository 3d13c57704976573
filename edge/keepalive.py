"""When a connection wants a ping, and when it is dead."""

from __future__ import annotations

from typing import Final, Literal

Due = Literal["", "ping", "dead"]
NEVER: Final = float("inf")


class Keepalive:
    """One connection with a keepalive of `seconds`, from its acceptance at `now`. Pure; times are monotonic s. Rules:

    1. A broker gives a client up that sends nothing for one and a half times the keepalive. Whatever is sent counts, so
       heartbeats that come more often than the keepalive make pings needless.
    2. Something must be heard within a keepalive too, or a connection whose other end is gone would go on for ever.
       What the broker has to answer (a publish that it acknowledges, a subscription) shows that as well as a ping does.
    3. A connection is dead when the broker has owed an answer for a keepalive and nothing at all has come meanwhile.
    """

    def __init__(self, seconds: float, now: float) -> None:
        self._seconds = seconds
        self._sent = self._heard = now
        self._owed_since = NEVER

    def sent(self, now: float, *, asks: bool) -> None:
        """Something was sent; with `asks` the broker has to answer."""
        self._sent = now
        if asks:
            self._owed_since = min(self._owed_since, now)

    def heard(self, now: float) -> None:
        """Something came."""
        self._heard = now
        self._owed_since = NEVER

    @property
    def deadline(self) -> float:
        """When `due` will say something."""
        return min(self._ping_at, self._owed_since + self._seconds)

    def due(self, now: float) -> Due:
        """Return what is to be done."""
        if now >= self._owed_since + self._seconds:
            return "dead"
        return "ping" if now >= self._ping_at else ""

    @property
    def _ping_at(self) -> float:
        asks_anyway = self._owed_since != NEVER
        return (self._sent if asks_anyway else min(self._sent, self._heard)) + self._seconds
