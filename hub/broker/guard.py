"""Puts out clients that subscribe as no agent does: ends their sessions and writes it down.

A client may offend thousands of times a second. It is put out once at a time, once more if it offended meanwhile, on
threads that nothing else waits for, and the log of events hears of it once a minute.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from hub.broker.evict import evict
from hub.broker.wire import LinkError
from hub.caller import rule
from hub.events import Event, append
from hub.identity.ca import Authorities
from hub.store import Store, StoreBusy, StoreFull

THREADS: Final = 2
TELL_MS: Final = 60_000
"""Between two events of one client."""

_log = structlog.get_logger("hub.guard")


class Guard:
    """`clock` gives ms. `stop` ends its threads."""

    def __init__(self, store: Store, authorities: Authorities, clock: Callable[[], int]) -> None:
        self._store = store
        self._authorities = authorities
        self._clock = clock
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="guard")
        self._lock = threading.Lock()
        self._again: dict[str, str | None] = {}
        """Whoever is being put out, and why once more, if so."""
        self._told: dict[str, int] = {}

    def offended(self, client: str, why: str, port: int) -> None:
        """Have `client` put out of the device listener at `port`; returns at once, from any thread."""
        with self._lock:
            if client in self._again:
                self._again[client] = why
                return
            self._again[client] = None
        self._pool.submit(self._put_out, client, why, port)

    def stop(self) -> None:
        """Put out nobody else; blocks until who is being put out is out."""
        self._pool.shutdown(cancel_futures=True)

    def _put_out(self, client: str, why: str, port: int) -> None:
        reason: str | None = why
        while reason is not None:
            try:
                evict(self._authorities, client, port=port, now=self._clock() // 1000)
            except (LinkError, OSError, ssl.SSLError) as error:
                _log.error("the client could not be put out", device=client, reason=str(error))
            except Exception:
                # A fault of ours: the next offence must find a guard that does its work.
                _log.exception("the client could not be put out", device=client)
            try:
                self._tell(client, reason)
            except (StoreBusy, StoreFull) as error:
                _log.error(
                    "that a client was put out cannot be written down", device=client, reason=str(error)
                )
            with self._lock:
                reason = self._again.pop(client)
                if reason is not None:
                    self._again[client] = None

    def _tell(self, client: str, why: str) -> None:
        now = self._clock()
        with self._lock:
            self._told = {one: at for one, at in self._told.items() if 0 <= now - at < TELL_MS}
            if client in self._told:
                return
            self._told[client] = now
        _log.warning("a client is put out", device=client, reason=why)
        with self._store.write() as tx:
            append(tx, Event(kind="device.evicted", device_id=client, reason=why), rule("subscriptions"), now)
