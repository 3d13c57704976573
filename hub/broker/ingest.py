"""Ingest: one serial thread per slot that takes in what devices report.

    read → reduce → commit in one transaction → acknowledge → receipts

The broker hears of nothing before it is committed. Killed at any instant, nothing acknowledged is missing, and
what was committed but not acknowledged comes again and changes nothing. While the store refuses, nothing is
acknowledged, the connection is kept alive and the same messages are tried again; up to the receive maximum
wait here and the rest in the broker.
"""

from __future__ import annotations

import gc
import os
import random
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import structlog

from hub.broker import commit
from hub.broker.abuse.floods import Floods
from hub.broker.arrivals import Uplink
from hub.broker.commit import Outcome
from hub.broker.devices import Devices
from hub.broker.observed import Observed
from hub.broker.reduce import Refusal, Topics, parts, reduce
from hub.broker.session import IngestSettings, Session
from hub.broker.wire import Link, LinkError
from hub.store import Store, StoreBusy, StoreFull

__all__ = ["Ingest", "IngestSettings", "Summary"]

BACKOFF_SECONDS: Final = (0.2, 30.0)
GC_THRESHOLDS: Final = (50_000, 20, 20)
"""By default the collector walks over each batch some 200 times, and finds nothing: a fifth of all the time."""

_log = structlog.get_logger("hub.ingest")


class Summary(NamedTuple):
    """What one commit took in, for whoever must act on it: how many messages, which devices changed, which
    releases have new results."""

    messages: int
    devices: set[str]
    releases: set[str]


class Context(Protocol):
    """Where TLS files come from: `hub.broker.credentials.Credentials`, or None for a broker without TLS."""

    def context(self) -> ssl.SSLContext | None:
        """Return the context for a new connection."""


class Ingest:
    """One slot. `start` runs its thread, `stop` ends it.

    `now` gives ms since the epoch, `steady` s of a clock that is never set. `on_commit` is called on the slot's thread
    after every commit, `on_arrivals` with the messages of it, refused ones included but for log lines, and `on_flood`
    with the ids of devices that send far too much.
    `credentials` are read anew at each connection, so renewed files are taken up.
    """

    def __init__(
        self,
        store: Store,
        settings: IngestSettings,
        credentials: Context,
        *,
        now: Callable[[], int],
        steady: Callable[[], float] = time.monotonic,
        on_commit: Callable[[Summary], None] = lambda _summary: None,
        on_arrivals: Callable[[list[Uplink]], None] = lambda _arrivals: None,
        on_flood: Callable[[list[str]], None] = lambda _device_ids: None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._credentials = credentials
        self._now = now
        self._on_commit = on_commit
        self._on_arrivals = on_arrivals
        self._on_flood = on_flood
        self._floods = Floods(settings.fleet, random.Random())  # noqa: S311  (a sample to count)
        self._stopping = threading.Event()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name=settings.name, daemon=True)
        self._steady = steady
        self._observed = Observed(now, steady)
        self._store_refuses = False
        self._topics: Topics = {}
        self._devices = Devices()
        self._heard = settings.batch
        self.taken = 0
        """Messages committed since the start."""
        self.refused = 0
        """Messages put in quarantine since the start."""
        self.connections = 0
        """Connections with every subscription granted, since the start."""
        self.problem = "Ingest has not connected to the broker yet."
        """One sentence while reports are not being taken in, else empty."""

    @property
    def observed_since(self) -> int:
        """Since when (ms) devices have been heard without a break; now, while they are not."""
        return self._observed.since

    def start(self) -> None:
        """Start the slot's thread."""
        self._thread.start()

    def stop(self) -> None:
        """Commit what has arrived, leave the broker and end the thread; blocks until it has ended."""
        self._stopping.set()
        os.eventfd_write(self._wake, 1)
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._wake)

    def _run(self) -> None:
        failures = 0
        self._store.expect_bulk()
        gc.set_threshold(*GC_THRESHOLDS)
        while not self._stopping.is_set():
            before = self.connections
            try:
                self._stay_connected()
            except (LinkError, OSError, ssl.SSLError) as error:
                self._lost(f"Ingest is not connected to the broker: {error}.")
            except Exception as error:
                # A fault of ours must not end intake for good; what was not committed comes again.
                _log.exception("ingest failed")
                self._lost(f"Ingest failed and connects again: {error}.")
            failures = 0 if self.connections > before else min(failures + 1, 10)
            low, high = BACKOFF_SECONDS
            self._stopping.wait(random.uniform(0, min(high, low * 2**failures)))  # noqa: S311  (jitter)

    def _lost(self, problem: str) -> None:
        self._observed.end()
        self._floods.forget()
        if not self._stopping.is_set():
            self.problem = problem
            _log.warning("ingest lost the broker", slot=self._settings.slot, reason=problem)

    def _stay_connected(self) -> None:
        settings = self._settings
        with Link(settings.host, settings.port, self._credentials.context()) as link:
            session = Session(link, settings)
            session.connect()
            welcomed = False
            while not self._stopping.is_set():
                session.wait(self._wake)
                session.read()
                if session.subscribed and not welcomed:
                    welcomed, self.problem = True, ""
                    self.connections += 1
                if session.is_due():
                    self._commit(session)
                if session.caught_up:
                    self._observed.begin()
                    self._floods.begin(self._steady())
                session.keep_alive()
            self._commit(session)
            session.disconnect()

    def _commit(self, session: Session) -> None:
        entries = session.pending
        if not entries:
            return
        try:
            outcome = self._write(entries)
        except (StoreBusy, StoreFull) as error:
            self._observed.end()
            self._floods.forget()
            if not self._store_refuses:
                self._store_refuses = True
                _log.error(
                    "the store refuses", slot=self._settings.slot, waiting=len(entries), reason=str(error)
                )
            self.problem = f"Reports wait in the broker because the store cannot be written: {error}."
            session.postpone()
            return
        self.problem = ""  # the answer to SUBSCRIBE may still be behind a long queue
        if self._store_refuses:
            self._store_refuses = False
            _log.info("the store takes reports again", slot=self._settings.slot)
        session.acknowledge(len(entries))
        session.send_receipts(outcome.receipts)
        if floods := self._floods.heard(entries, self._steady()):
            self._on_flood(floods)
        self.taken += len(entries)
        self.refused += outcome.refused
        self._on_commit(Summary(len(entries), outcome.devices, outcome.releases))
        if outcome.refused_logs:
            refused = {id(arrival) for arrival in outcome.refused_logs}
            entries = [arrival for arrival in entries if id(arrival) not in refused]
        self._on_arrivals(entries)

    def _write(self, entries: list[Uplink]) -> Outcome:
        """Commit `entries` in one transaction, or in halves until the one the store cannot take stands alone."""
        try:
            return self._write_whole(entries)
        except (StoreBusy, StoreFull):
            raise
        except Exception as error:
            if len(entries) == 1:
                return self._set_aside(entries[0], error)
        half = len(entries) // 2
        outcome = self._write(entries[:half])
        outcome += self._write(entries[half:])
        return outcome

    def _write_whole(self, entries: list[Uplink]) -> Outcome:
        now, outcome = self._now(), Outcome()
        with self._store.write() as tx:
            for part in parts(entries, self._heard):
                batch = reduce(part, self._topics, now // 1000)
                outcome += commit.apply(tx, batch, now, self._devices)
        self._heard = len(outcome.devices)
        return outcome

    def _set_aside(self, entry: Uplink, error: Exception) -> Outcome:
        # No receipt: the fault may be ours, and the device keeps its report until a mended hub takes it.
        _log.error("a message cannot be stored", topic=entry.topic, reason=repr(error))
        refusal = Refusal(entry, "store", f"{type(error).__name__}: {error}")
        with self._store.write() as tx:
            commit.quarantine(tx, [refusal], self._now())
        return Outcome(refused=1)
