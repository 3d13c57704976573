"""Hoisting against a real broker: what the store wants is what a newcomer reads, whatever happened in between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.broker import hoister as hoisting
from hub.broker.hoister import Hoister
from hub.store import SqliteStore
from tests.support.mosquitto import FLEET, Broker, wait_until
from topics.channels import DESIRED, MANIFEST

CANARY = MANIFEST.topic(FLEET, role="kiosk", segment="canary")
EARLY = MANIFEST.topic(FLEET, role="kiosk", segment="early")


class Running:
    """A hoister in a thread of its own, as it runs in the hub's event loop."""

    def __init__(self, store: SqliteStore, broker: Broker) -> None:
        context = broker.service_files("svc.hoister").context()
        self.hoister = Hoister(
            store, FLEET, lambda: hoisting.client("127.0.0.1", broker.service_port, context)
        )
        store.on_commit(self.hoister.wake)
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self._task = self._loop.create_task(self.hoister.run())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    def stop(self) -> None:
        """End it; safe to call twice."""
        if self._thread.is_alive():
            assert self._task is not None
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "hub.db")
    yield made
    made.close()


@pytest.fixture
def running(store: SqliteStore, broker: Broker) -> Iterator[Running]:
    made = Running(store, broker)
    wait_until(lambda: not made.hoister.problem, what="a connected hoister")
    yield made
    made.stop()


def want(store: SqliteStore, topic: str, payload: bytes) -> None:
    with store.write() as tx:
        tx.execute(
            "INSERT INTO retained (topic, revision, issued_at, expires_at, payload) VALUES (:topic, "
            "(SELECT COALESCE(MAX(revision), 0) + 1 FROM retained), 0, 0, :payload) ON CONFLICT (topic) "
            "DO UPDATE SET revision = excluded.revision, payload = excluded.payload",
            {"topic": topic, "payload": payload},
        )


def retained(broker: Broker, topic: str, device: str = "reader") -> bytes:
    """What a newcomer reads on `topic`, b"" when nothing is retained."""
    with broker.device(device) as peer:
        marker = MANIFEST.topic(FLEET, role="marker", segment="canary")
        peer.subscribe(topic, marker)
        found = b""
        while True:
            where, body = peer.receive()
            if where == marker:
                return found
            found = body


@pytest.fixture(autouse=True)
def marker(store: SqliteStore) -> None:
    """A topic that always holds something: reading it last proves that nothing else was retained before it."""
    want(store, MANIFEST.topic(FLEET, role="marker", segment="canary"), b"marker")


def holds(broker: Broker, topic: str, payload: bytes) -> bool:
    return retained(broker, topic) == payload


def test_what_the_store_wants_is_retained_and_the_last_word_wins(
    store: SqliteStore, broker: Broker, running: Running
) -> None:
    for number in range(20):
        want(store, CANARY, b"%d" % number)
    wait_until(lambda: holds(broker, CANARY, b"19"), what="the last payload")


def test_what_a_stranger_put_there_is_replaced_and_what_nobody_wants_is_cleared(
    store: SqliteStore, broker: Broker, running: Running
) -> None:
    want(store, CANARY, b"ours")
    wait_until(lambda: holds(broker, CANARY, b"ours"))
    with broker.service("svc.hoister") as stranger:  # cuts the real one off, which comes back
        stranger.publish(CANARY, b"forged", retain=True)
        stranger.publish(EARLY, b"forged", retain=True)
    wait_until(lambda: holds(broker, CANARY, b"ours"), what="our payload again")
    wait_until(lambda: holds(broker, EARLY, b""), what="a cleared topic")


def test_a_broker_that_lost_its_memory_is_told_everything_again(
    store: SqliteStore, broker: Broker, running: Running
) -> None:
    want(store, CANARY, b"ours")
    wait_until(lambda: holds(broker, CANARY, b"ours"))
    broker.kill()
    for database in (broker.settings.folder / "data").iterdir():
        database.unlink()
    broker.start()
    wait_until(lambda: holds(broker, CANARY, b"ours"), what="our payload after the broker's death")


def test_after_a_restart_only_what_differs_is_published(
    store: SqliteStore, broker: Broker, running: Running
) -> None:
    want(store, CANARY, b"same")
    want(store, EARLY, b"before")
    wait_until(lambda: holds(broker, CANARY, b"same") and holds(broker, EARLY, b"before"))
    running.stop()
    want(store, EARLY, b"after")
    again = Running(store, broker)
    try:
        wait_until(lambda: holds(broker, EARLY, b"after"))
        assert again.hoister.published == 1
    finally:
        again.stop()


def test_an_emptied_payload_clears_a_devices_desired_state(
    store: SqliteStore, broker: Broker, running: Running
) -> None:
    own = DESIRED.topic(FLEET, id="shop-1")
    want(store, own, b"desired")
    wait_until(lambda: retained(broker, own, "shop-1") == b"desired")
    want(store, own, b"")
    wait_until(lambda: retained(broker, own, "shop-1") == b"")
