"""A hub that a browser can open: the real application on a real port, whose fleet a test moves as it likes.

What a leader and a broker would do, judging, sealing and telling summaries, happens when `tell` is called.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import uvicorn

from hub import events
from hub.app import http_config
from hub.streams import Streams
from hub.summaries import summaries
from tests.hub.access.issuer import Issuer
from tests.hub.world import World
from tests.support.ports import held_port
from tests.topics import kit
from topics.messages import Drift, DriftItem, Presence, Probes


class Stage(World):
    """A world with an address."""

    def __init__(self, folder: Path, issuer: Issuer | None = None) -> None:
        self.port = held_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        super().__init__(folder, own_application=True, public_url=self.url[:-1], issuer=issuer)
        self.streams: Streams = self.app.dependencies["streams"].dependency()  # type: ignore[union-attr]
        self.store.on_commit(self.streams.wake)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Answer on the port, from now on or again."""
        config = http_config(_prefixed(self.app))
        config.lifespan = "off"  # the test's own client has begun it already
        self._server = uvicorn.Server(config)
        listener = socket.create_server(("127.0.0.1", self.port))
        started = threading.Event()
        server = self._server

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self.streams._closing = False
            self.streams.start()
            started.set()
            await server.serve(sockets=[listener])

        self._thread = threading.Thread(target=asyncio.run, args=(serve(),))
        self._thread.start()
        started.wait()

    def close(self) -> None:
        """Answer nothing more: connections end, and the port refuses."""
        if self._server is None or self._thread is None or self._loop is None:
            return
        self._server.should_exit = True
        self._loop.call_soon_threadsafe(self.streams.close)
        self._thread.join()
        self._server = None

    def tell(self) -> None:
        """Judge rollouts, number the events and tell the summaries, as the leader would after a commit."""
        self.judge()
        with self.store.write() as tx:
            events.seal(tx)
        with self.store.read() as tx:
            found = summaries(tx, kit.FLEET, now=self.now, observed_since=self.observed_since)
        if self._loop is not None and self._server is not None:
            for topic, state in found.items():
                name = topic.partition("/summary/")[2]
                self._loop.call_soon_threadsafe(self.streams.signal, name, state)

    def go_on(self) -> None:
        """Take a hub further that another stage has filled: what is reported now is new."""
        self._counter = itertools.count(100_000)
        self.tell()

    def drift(self, device_id: str, release: str) -> None:
        """Take in a drift that nobody repaired."""
        report = Drift(
            boot=(1, "0" * 8), at=self.now // 1000, spool="0a1b2c3d", n=next(self._counter),
            release=release, items=[DriftItem(path="files/app.conf", what="hash", expected="a1", found="b2")],
        )  # fmt: skip
        self.uplink(device_id, report)

    def presence(self, device_id: str, state: Literal["sleeping", "offline"]) -> None:
        """Take in what a device says when it goes."""
        wake = self.now // 1000 + 3600 if state == "sleeping" else 0
        self.uplink(device_id, Presence(boot=(1, "0" * 8), session=1, state=state, next_wake=wake))

    def beats(self, device_id: str, running: tuple[str, int], hours: int) -> None:
        """Take in a heartbeat every ten minutes of the last hours, with probes that go up and down."""
        end = self.now
        for number in range(hours * 6, -1, -1):
            self.now = end - number * 600_000
            load = 0.3 + 0.25 * ((number * 7) % 11) / 11
            probes = Probes(
                cpu_load=load, memory_used=0.45 + load / 4, disk_used=0.3 + 0.001 * (hours * 6 - number),
                temperature=48 + 20 * load, uptime=600 * number,
            )  # fmt: skip
            self.heartbeat(device_id, running=running, probes=probes, at=self.now // 1000)
        self.now = end


def _prefixed(app: Any) -> Any:
    """Answer below `/fleet-one/` as well, as a proxy would have it."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path", "").startswith("/fleet-one/"):
            path = scope["path"].removeprefix("/fleet-one")
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await app(scope, receive, send)

    return answer


@contextmanager
def stage(folder: Path, issuer: Issuer | None = None) -> Iterator[Stage]:
    """Open a stage, with its root of trust, and end what it started."""
    made = Stage(folder, issuer)
    with made.client:
        if made.client.get("/trust/roots/1").status_code == 404:
            made.trust_root()
        made.open()
        try:
            yield made
        finally:
            made.close()
    made.store.close()
