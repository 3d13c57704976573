"""Ingest against a real Mosquitto: nothing acknowledged is lost, nothing counts twice, nothing stops it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hub.broker.ingest import Ingest, IngestSettings, Summary
from hub.broker.session import Session
from hub.broker.wire import Link
from hub.store import SqliteStore, Store, Tx, sqlite
from hub.times import now_ms
from tests.support.mosquitto import Broker, Peer, wait_until
from tests.support.uplinks import (
    SPOOL,
    open_store,
    presence,
    result,
    rows,
    status,
    topic,
)
from topics import codec
from topics.channels import RECEIPT
from topics.messages import Message, Receipt


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path, slots=2) as broker:
        yield broker


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = open_store(tmp_path, "a", "b")
    yield store
    store.close()


@contextmanager
def running(broker: Broker, store: Store, *, connected: bool = True, **settings: Any) -> Iterator[Ingest]:
    """An ingest slot that has subscribed."""
    options = IngestSettings(broker.fleet, broker.service_port, **{"window": 0.01, **settings})
    summaries: queue.Queue[Summary] = queue.Queue()
    slot = Ingest(store, options, broker.service_files(options.name), now=now_ms, on_commit=summaries.put)
    slot.summaries = summaries  # type: ignore[attr-defined]
    slot.start()
    try:
        if connected:
            wait_until(lambda: slot.connections, what="the subscription")
        yield slot
    finally:
        slot.stop()


def send(peer: Peer, device_id: str, message: Message, **options: Any) -> int:
    return peer.send(topic(device_id, message), codec.encode(message), kind=codec.MSGPACK, **options)


def receipts(peer: Peer, device_id: str) -> Callable[[], int]:
    """Subscribe to receipts; the returned function waits for the next and returns its n."""
    peer.subscribe(RECEIPT.topic("acme", id=device_id))

    def following() -> int:
        _, body = peer.receive()
        receipt = codec.decode(body, Receipt, limit=1000)
        assert receipt.spool == SPOOL
        return receipt.n

    return following


def test_what_a_device_reports_is_in_the_store_before_its_receipt(broker: Broker, store: SqliteStore) -> None:
    with running(broker, store) as slot, broker.device("a") as device:
        receipt = receipts(device, "a")
        for message in (presence(), status(), result(1), result(2, "committed")):
            send(device, "a", message)
        wait_until(lambda: receipt() == 2)
        assert [row["n"] for row in rows(store, "SELECT n FROM reports ORDER BY n")] == [1, 2]
        assert rows(store, "SELECT state FROM attempts") == [{"state": "committed"}]
        assert rows(store, "SELECT seq FROM device_latest") == [{"seq": 1}]
        assert rows(store, "SELECT state FROM presence") == [{"state": "online"}]
        assert slot.problem == ""


def test_a_commit_is_told_to_whoever_judges_rollouts(broker: Broker, store: SqliteStore) -> None:
    with running(broker, store) as slot, broker.device("a") as device:
        send(device, "a", result(1))
        summary = slot.summaries.get(timeout=60)  # type: ignore[attr-defined]
    assert summary == Summary(1, {"a"}, {"kiosk-7-abc"})


def test_presence_retained_before_the_hub_came_is_read(broker: Broker, store: SqliteStore) -> None:
    with broker.device("a") as device:
        send(device, "a", presence("sleeping", next_wake=99), retain=True)
        with running(broker, store):
            wait_until(lambda: rows(store, "SELECT state, next_wake FROM presence"))
    assert rows(store, "SELECT state, next_wake FROM presence") == [{"state": "sleeping", "next_wake": 99}]


def test_a_broken_connection_makes_the_device_offline_by_its_will(broker: Broker, store: SqliteStore) -> None:
    will = (topic("a", "presence"), codec.encode(presence("offline")))
    with running(broker, store):
        device = broker.device("a", will=will)
        send(device, "a", presence("online"), retain=True)
        wait_until(lambda: rows(store, "SELECT 1 FROM presence WHERE state = 'online'"))
        device.drop()
        wait_until(lambda: rows(store, "SELECT 1 FROM presence WHERE state = 'offline'"))
        device.close()


def test_reports_made_while_the_hub_was_away_are_taken_in(broker: Broker, store: SqliteStore) -> None:
    with running(broker, store):
        pass
    with broker.device("a") as device:
        for n in range(1, 51):
            assert device.acknowledged(send(device, "a", result(n))) == 0
        with running(broker, store):
            wait_until(lambda: rows(store, "SELECT contiguous FROM spools") == [{"contiguous": 50}])


JUNK = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"\x00" * 50, id="zeros"),
    pytest.param(b"\xde\xff\xff", id="map-that-never-comes"),
    pytest.param(b"{" * 5000, id="deep-json"),
    pytest.param(b"\x81\xa1a" * 2000, id="deep-messagepack"),
    pytest.param(b'{"seq": NaN}', id="nan"),
    pytest.param(b'{"seq": 99999999999999999999}', id="beyond-64-bits"),
    pytest.param(b"x" * 66_000, id="over-the-cap"),
]


def test_junk_amid_good_messages_stops_nothing(broker: Broker, store: SqliteStore) -> None:
    junk = [param.values[0] for param in JUNK]
    with running(broker, store) as slot, broker.device("a") as device:
        for n, body in enumerate(junk, start=1):
            assert isinstance(body, bytes)
            device.send(topic("a", "update-result"), body)
            send(device, "a", result(n))
        wait_until(lambda: rows(store, "SELECT contiguous FROM spools") == [{"contiguous": len(junk)}])
        wait_until(lambda: slot.refused == len(junk))
        assert slot.connections == 1
    assert rows(store, "SELECT SUM(count) AS n FROM quarantine_counts") == [{"n": len(junk)}]


class Faulty:
    """A store that cannot take bodies with `poison` in them, as a driver fails in mid-statement."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def write(self) -> Iterator[Tx]:
        with self._store.write() as tx:
            yield FaultyTx(tx)


def values(row: Any) -> Iterable[Any]:
    """The parameters of a statement, by name or by position."""
    return row.values() if isinstance(row, dict) else row


class FaultyTx:
    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    def executemany(self, sql: str, params: Iterable[Any]) -> None:
        params = list(params)
        if "quarantine" not in sql and any(
            b"poison" in value for row in params for value in values(row) if isinstance(value, bytes)
        ):
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        self._tx.executemany(sql, params)


def test_a_message_the_store_cannot_take_is_set_aside_and_the_rest_is_kept(
    broker: Broker, store: SqliteStore
) -> None:
    """It gets no receipt: the fault may be the hub's, so the device keeps its report."""
    faulty: Any = Faulty(store)
    with (
        running(broker, faulty, window=0.2) as slot,
        broker.device("a") as device,
        broker.device("b") as other,
    ):
        receipt = receipts(device, "a")
        for n in range(1, 21):
            send(other, "b", result(n))
            send(device, "a", result(n, reason="poison" if n == 8 else "fine"))
        wait_until(lambda: slot.refused == 1)
        wait_until(lambda: rows(store, "SELECT COUNT(*) AS n FROM reports") == [{"n": 39}])
        wait_until(lambda: receipt() == 7)
        assert device.messages.empty()
    (held,) = rows(store, "SELECT topic, reason, detail FROM quarantine")
    assert (held["topic"], held["reason"]) == (topic("a", "update-result"), "store")
    assert "OverflowError" in held["detail"]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Another process writes to the database and does not end."""
    other = SqliteStore(folder / "hub.db")
    with other.write() as tx:
        tx.execute("INSERT INTO meta (key, value) VALUES ('locked', '1') ON CONFLICT DO NOTHING")
        yield
    other.close()


def test_while_the_store_is_locked_nothing_is_acknowledged_and_then_all_is_taken(
    broker: Broker, store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    with running(broker, store) as slot, broker.device("a") as device:
        receipt = receipts(device, "a")
        wait_until(lambda: slot.observed_since < now_ms() - 20)
        with locked(tmp_path):
            send(device, "a", result(1))
            wait_until(lambda: "store cannot be written" in slot.problem)
            asked_at = now_ms()
            assert slot.observed_since >= asked_at
            assert slot.taken == 0
            send(device, "a", result(2))
            assert device.messages.empty()
        wait_until(lambda: receipt() == 2)
        wait_until(lambda: slot.problem == "")
        assert slot.connections == 1


def test_a_hub_stopped_while_the_store_is_locked_loses_nothing(
    broker: Broker, store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    with broker.device("a") as device:
        with locked(tmp_path), running(broker, store) as slot:
            assert device.acknowledged(send(device, "a", result(1))) == 0
            wait_until(lambda: "store cannot be written" in slot.problem)
        assert rows(store, "SELECT * FROM reports") == []
        with running(broker, store):
            wait_until(lambda: rows(store, "SELECT contiguous FROM spools") == [{"contiguous": 1}])


def test_it_connects_again_after_the_broker_was_gone(broker: Broker, store: SqliteStore) -> None:
    with running(broker, store) as slot:
        broker.kill()
        wait_until(lambda: "not connected" in slot.problem)
        asked_at = now_ms()
        assert slot.observed_since >= asked_at
        broker.start()
        wait_until(lambda: slot.connections == 2)
        assert slot.problem == ""
        with broker.device("a") as device:
            send(device, "a", status())
            wait_until(lambda: rows(store, "SELECT seq FROM device_latest"))


def test_it_waits_for_a_broker_that_is_not_there_yet(tmp_path: Path, store: SqliteStore) -> None:
    broker = Broker(tmp_path)
    with broker:
        pass
    with running(broker, store, connected=False) as slot:
        wait_until(lambda: "refused" in slot.problem)
        with broker:
            wait_until(lambda: slot.connections == 1)


def test_what_was_not_acknowledged_comes_again_and_is_marked_so(broker: Broker) -> None:
    """The mark matters: a redelivery by the broker is no proof that the device sent it twice."""

    def arrivals(link: Link) -> list[bool]:
        session = Session(link, IngestSettings("acme", broker.service_port))
        session.connect()
        with broker.device("a") as device:
            while not session.subscribed:
                link.wait(5)
                session.read()
            device.send(topic("a", "drift"), b"x")
            while not session.pending or session.pending[-1].duplicate:
                link.wait(5)
                session.read()
        return [arrival.duplicate for arrival in session.pending]

    context = broker.service_files("svc.ingest-0").context()
    with Link("127.0.0.1", broker.service_port, context) as link:
        assert arrivals(link) == [False]
    with Link("127.0.0.1", broker.service_port, context) as link:
        assert arrivals(link) == [True, False]


def test_two_hubs_on_one_slot_are_told_so(broker: Broker, store: SqliteStore) -> None:
    with running(broker, store) as slot:
        files = broker.service_files("svc.ingest-0")
        with Link("127.0.0.1", broker.service_port, files.context()) as link:
            Session(link, IngestSettings("acme", broker.service_port)).connect()
            wait_until(lambda: "another hub took over" in slot.problem)


def test_slots_share_the_reports_and_one_of_them_hears_who_is_there(
    broker: Broker, store: SqliteStore
) -> None:
    shared: Any = {"slots": 2, "share_group": "secret"}
    with (
        running(broker, store, slot=0, **shared) as first,
        running(broker, store, slot=1, **shared) as second,
        broker.device("a") as device,
    ):
        send(device, "a", presence(), retain=True)
        for n in range(1, 41):
            send(device, "a", result(n))
        wait_until(lambda: rows(store, "SELECT contiguous FROM spools") == [{"contiguous": 40}])
        wait_until(lambda: first.taken + second.taken == 41)
        assert min(first.taken, second.taken) > 0
    assert rows(store, "SELECT state FROM presence") == [{"state": "online"}]
