"""Tells dashboards how things stand: changed summaries only, twice a second at most, less often if counting is slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog

from hub.broker.hoister import Hoister
from hub.store import Store, StoreBusy
from hub.streams import Streams
from hub.summaries import summaries
from hub.times import now_ms
from hub.wake import Wake

LEAST_S: Final = 0.5
SHARE: Final = 20
"""Counting may take one part in `SHARE` of the time: a fleet so large that it takes long is told less often."""
STILL_S: Final = 30.0
"""With no commit at all, silence still turns devices offline; look this often."""

_log = structlog.get_logger("hub.pulse")
_encoder = msgspec.json.Encoder(order="sorted")


class Pulse:
    """Runs until cancelled."""

    def __init__(
        self, store: Store, fleet: str, hoister: Hoister, streams: Streams, observed_since: Callable[[], int]
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._hoister = hoister
        self._streams = streams
        self._observed_since = observed_since
        self.wake = Wake()
        """To be called when something was committed."""
        self._told: dict[str, bytes] = {}

    async def run(self) -> None:
        """Count after every wake, and tell what changed."""
        with self.wake.heard():
            while True:
                self.wake.clear()
                pause = LEAST_S
                try:
                    pause = await self._beat()
                except StoreBusy as error:
                    _log.warning("summaries wait", error=str(error))
                await asyncio.sleep(pause)
                await self.wake.wait(STILL_S)

    async def _beat(self) -> float:
        begin = time.monotonic()
        found = await asyncio.to_thread(self._count)
        for topic, state in found.items():
            text = _encoder.encode(state)
            if self._told.get(topic) != text:
                self._told[topic] = text
                self._hoister.tell(topic, text)
                self._streams.signal(_name(topic), state)
        for topic in set(self._told) - set(found):
            # A release that has ended leaves its topic, so that no board shows it as under way for ever.
            del self._told[topic]
            self._hoister.tell(topic, b"")
            self._streams.signal(_name(topic), None)
        return max(LEAST_S, SHARE * (time.monotonic() - begin))

    def _count(self) -> dict[str, dict[str, Any]]:
        with self._store.read() as tx:
            return summaries(tx, self._fleet, now=now_ms(), observed_since=self._observed_since())


def _name(topic: str) -> str:
    """Return the tail of a summary's topic: `fleet`, `roles/kiosk`, `releases/kiosk-7-…`, `alerts`."""
    return topic.partition("/v1/summary/")[2]
