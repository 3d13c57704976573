"""Server-sent events: the event log as it grows, and signals of the moment between its entries.

Entries of the log carry their number as SSE id, so a client that comes back with `Last-Event-ID` misses none.
Signals (`summary`) have no id: they tell a state, and the next one of the same name replaces it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import msgspec

from hub import events
from hub.errors import RequestError, TooMany
from hub.store import Row, Store

BATCH: Final = 200
PING_S: Final = 15.0
MAX_STREAMS: Final = 256
MAX_EACH: Final = 32
"""Streams of one key, person or device: nobody may take all of them."""
AGAIN_S: Final = 5


class TooManyStreams(RequestError):  # noqa: N818  (named by outcome)
    """As many streams are open as this hub serves."""

    status, title = 503, "Service unavailable"


ENDS: Final = ("device.revoked", "device.deleted", "device.registered_again")
"""What ends a device's own stream: whoever opened it is that device no longer."""


RIGHTS: Final = frozenset({"session.ended", "api_key.revoked"})
"""What may have taken from an operator the right to read on."""


class Filter(msgspec.Struct, frozen=True):
    """What a stream is about: everything, or one device and the releases of its role.

    `own_since` is the number of the newest entry when a device opened its own stream, None for operators.
    """

    device_id: str | None = None
    role: str | None = None
    own_since: int | None = None

    def ends(self, row: Row) -> bool:
        """Whether an entry of the log is the end of the stream."""
        return self.own_since is not None and row["n"] > self.own_since and row["kind"] in ENDS

    def takes(self, row: Row) -> bool:
        """Whether an entry of the log belongs on the stream."""
        if self.device_id is None:
            return True
        about_role = row["device_id"] is None and row["role"] is not None and row["role"] == self.role
        return bool(row["device_id"] == self.device_id or about_role)


class Streams:
    """Every open stream. `wake` is thread-safe; the rest lives on the event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loop: asyncio.AbstractEventLoop | None = None
        self._grown = asyncio.Event()
        self._states: dict[str, tuple[int, bytes]] = {}
        self._told = 0
        self._closing = False
        self.open = 0
        """How many streams are open."""
        self._of: Counter[str] = Counter()

    def start(self) -> None:
        """Bind to the running event loop."""
        self._loop = asyncio.get_running_loop()

    def wake(self) -> None:
        """Say that the log may have grown."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_all)

    def signal(self, key: str, state: dict[str, Any] | None) -> None:
        """Tell every stream that is about everything the state of `key`; None when it has none any more.

        Who connects later is told every state that stands then.
        """
        self._told += 1
        self._states.pop(key, None)
        self._states[key] = (self._told, msgspec.json.encode({"summary": key, "state": state}))
        self._wake_all()

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        self._closing = True
        self._wake_all()

    def _wake_all(self) -> None:
        # Who waits holds the old event; who comes after this reads first and waits on the new one.
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def last(self) -> int:
        """The number of the newest sealed entry, 0 if there is none."""
        with self._store.read() as tx:
            row = tx.one("SELECT COALESCE(MAX(n), 0) AS n FROM events")
        return int(row["n"]) if row else 0

    def admit(self, who: str) -> None:
        """Raise `TooManyStreams` when no further one may open, `TooMany` when `who` has enough of them."""
        refusal = self._refusal(who)
        if refusal is not None:
            raise refusal

    def _refusal(self, who: str) -> RequestError | None:
        if self._of[who] >= MAX_EACH:
            return TooMany(
                f"{who} has {MAX_EACH} event streams open, which is as many as one caller may have; close one.",
                rule="streams_each",
                retry_after=AGAIN_S,
            )
        if self.open >= MAX_STREAMS:
            return TooManyStreams(
                f"{MAX_STREAMS} event streams are open, which is as many as this hub serves; close one.",
                rule="streams",
            )
        return None

    async def follow(
        self,
        after: int,
        about: Filter,
        may: Callable[[], Awaitable[bool]] | None = None,
        who: str = "",
    ) -> AsyncIterator[bytes]:
        """Yield SSE text from the entry after number `after` on, until the hub stops.

        `who` opened it, and is asked for by `may`, before what may have taken their right is told, and every `PING_S`.
        """
        if self._refusal(who) is not None:
            return  # many were admitted at once, before the first of them began
        self.open += 1
        self._of[who] += 1
        told, clock = 0, asyncio.get_running_loop().time
        asked_at = clock()
        try:
            yield b"retry: 2000\n\n"
            while not self._closing:
                grown = self._grown
                rows = await asyncio.to_thread(self._after, after)
                if may is not None and (
                    clock() >= asked_at + PING_S or any(row["kind"] in RIGHTS for row in rows)
                ):
                    asked_at = clock()
                    if not await may():
                        return
                for row in rows:
                    after = row["n"]
                    if about.takes(row):
                        yield entry(row)
                        if about.ends(row):
                            return
                if about.device_id is None:
                    for number, data in [state for state in self._states.values() if state[0] > told]:
                        told = number
                        yield b"event: summary\ndata: %s\n\n" % data
                if len(rows) < BATCH and not await _came(grown):
                    yield b": still here\n\n"
        finally:
            self.open -= 1
            self._of[who] -= 1
            self._of += Counter()  # drops who has none any more

    def _after(self, n: int) -> list[Row]:
        with self._store.read() as tx:
            return events.after(tx, n, limit=BATCH)


async def _came(event: asyncio.Event) -> bool:
    try:
        await asyncio.wait_for(event.wait(), PING_S)
    except TimeoutError:
        return False
    return True


def entry(row: Row) -> bytes:
    """Return one entry of the log as SSE text."""
    data = msgspec.json.encode(events.shown(row))
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (row["n"], row["kind"].encode(), data)
