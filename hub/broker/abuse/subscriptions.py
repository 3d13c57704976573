"""Whom to put out for how it subscribes. Pure: times are arguments.

1. A device that subscribes where it may not: Mosquitto grants any subscription, and a device that guessed the ingest's
   share group would take other devices' reports.
2. One that subscribes more than `MOST` times within a minute. Each time the broker sends it anew what is retained, up
   to 16 KB a manifest, and keeps for it what it does not read. An agent has four subscriptions to a connection.
3. One whose certificates were all withdrawn. Mosquitto looks at a certificate during the handshake alone, so who made
   one before and sends its CONNECT after is let in.

The hub's own services come in by another listener and may do anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hub.broker.config import may_subscribe

MOST: Final = 240
WINDOW_S: Final = 60.0


class Subscriptions:
    """Counts subscriptions by client, minute by minute. `is_withdrawn` tells whether one has no certificate left."""

    def __init__(self, fleet: str, is_withdrawn: Callable[[str], bool] = lambda _client: False) -> None:
        self._fleet = fleet
        self._is_withdrawn = is_withdrawn
        self._window = 0.0
        self._counts: dict[str, int] = {}

    def offence(self, client: str, topic_filter: str, at: float) -> str | None:
        """Return why a client that subscribes at `at` must go, None if it may stay; s of a clock that is never set."""
        if client.startswith("svc."):
            return None
        if not may_subscribe(self._fleet, client, topic_filter):
            return f"subscribed to {topic_filter}"
        if self._is_withdrawn(client):
            return "subscribed though its certificate was withdrawn"
        if at >= self._window + WINDOW_S:
            self._window, self._counts = at, {}
        count = self._counts[client] = self._counts.get(client, 0) + 1
        return f"subscribed more than {MOST} times within a minute" if count > MOST else None
