"""Keeps withdrawn certificates out of the broker: those that would come in, and those that are in already.

The order matters. The broker reads the new list first; then the hub takes over the session, which ends the
device's connection (`evict`); the device cannot take it back, since its certificate opens the door no longer.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from hub.broker.wire import LinkError
from hub.errors import SetupError
from hub.store import StoreBusy, StoreFull
from hub.wake import Wake

RETRY_S: Final = 1.0
_log = structlog.get_logger("hub.doorkeeper")


class Doorkeeper:
    """Runs until cancelled.

    `last` gives the number of the newest withdrawn certificate, cheaply, and `since(n)` the device ids of those
    after number n. `reload` lets the broker read the list, and `evict` ends a device's session; both may block.
    """

    def __init__(
        self,
        last: Callable[[], int],
        since: Callable[[int], Iterable[str]],
        reload: Callable[[], None],
        evict: Callable[[str], None],
    ) -> None:
        self._last = last
        self._since = since
        self._reload = reload
        self._evict = evict
        self._done = last()
        """The broker began with a list up to here, and with no sessions open."""
        self.wake = Wake()
        """To be called when something was committed."""
        self.problem = ""
        """One sentence while a withdrawn certificate may still be in, else empty."""

    async def run(self) -> None:
        """Look after every wake, and again while somebody could not be put out."""
        with self.wake.heard():
            while True:
                self.wake.clear()
                try:
                    await asyncio.to_thread(self.look)
                except (StoreBusy, StoreFull) as error:
                    self.problem = "Which certificates were withdrawn cannot be read; the hub tries again."
                    _log.error("withdrawn certificates cannot be read", reason=str(error))
                await self.wake.wait(RETRY_S if self.problem else None)

    def look(self) -> None:
        """Put out whose certificate was withdrawn since the last look."""
        newest = self._last()
        if newest == self._done:
            self.problem = ""
            return
        try:
            self._reload()
        except (OSError, SetupError) as error:
            # A full disk: whoever was withdrawn keeps its way in until the broker has the list, so that is told.
            self.problem = "The list of withdrawn certificates cannot be written; the hub tries again."
            _log.error("the broker's list of withdrawn certificates cannot be written", reason=str(error))
            return
        failed = []
        for device_id in dict.fromkeys(self._since(self._done)):
            try:
                self._evict(device_id)
                _log.info("a revoked device was put out", device=device_id)
            except (LinkError, OSError, ssl.SSLError) as error:
                failed.append(device_id)
                _log.error("a revoked device may still be connected", device=device_id, reason=str(error))
        if failed:
            self.problem = (
                f"{', '.join(failed[:3])} may still be connected though revoked; the hub tries again."
            )
        else:
            self._done, self.problem = newest, ""
