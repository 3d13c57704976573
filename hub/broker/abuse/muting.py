"""Mutes devices that flood: the broker answers their publishes with *not authorised* until the hold ends.

The session stays, so the device still hears what it should run, and its spool keeps what was refused. That the broker
drops what it sends spares ingest, the database and everybody's place in the queue.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from hub.broker.abuse.floods import MOST, WINDOW_S, Holds
from hub.caller import rule
from hub.errors import SetupError
from hub.events import Event, append
from hub.store import Store, StoreBusy, StoreFull
from hub.wake import Wake

RETRY_S: Final = 1.0

_log = structlog.get_logger("hub.muting")


class Muting:
    """Runs until cancelled. `reload` lets the broker read its access list, with whom `muted` names; it may block.

    `now` gives ms since the epoch, `steady` s of a clock that is never set.
    """

    def __init__(
        self, store: Store, now: Callable[[], int], steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._now = now
        self._steady = steady
        self._holds = Holds()
        self._lock = threading.Lock()
        self._wake = Wake()

    def muted(self) -> list[str]:
        """Return the ids of the devices that may say nothing at present."""
        with self._lock:
            return self._holds.held(self._steady())

    def flooded(self, device_ids: Iterable[str]) -> None:
        """Mute devices, from any thread, and write it down."""
        for device_id in device_ids:
            with self._lock:
                seconds = self._holds.hold(device_id, self._steady())
            if seconds:
                reason = f"sent more than {MOST} messages within {WINDOW_S:g} s; muted for {seconds:g} s"
                _log.warning("a device floods and is muted", device=device_id, seconds=seconds)
                self._wake()
                try:
                    with self._store.write() as tx:
                        event = Event(kind="device.muted", device_id=device_id, reason=reason)
                        append(tx, event, rule("floods"), self._now())
                except (StoreBusy, StoreFull) as error:
                    _log.error(
                        "that it was muted cannot be written down", device=device_id, reason=str(error)
                    )

    async def run(self, reload: Callable[[], None]) -> None:
        """Have the broker read its list whenever a hold begins or ends."""
        told: list[str] = []
        with self._wake.heard():
            while True:
                self._wake.clear()
                with self._lock:
                    at = self._steady()
                    held, seconds = self._holds.held(at), self._holds.next_end(at)
                if held != told:
                    try:
                        await asyncio.to_thread(reload)
                        told = held
                    except (OSError, SetupError, StoreBusy, StoreFull) as error:
                        _log.error("the broker's access list cannot be written", reason=str(error))
                        await self._wake.wait(RETRY_S)
                else:
                    await self._wake.wait(seconds)
