"""Faults that fleets really have, against real Mosquitto, the real ingest and the real store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mqtt5
import pytest

from edge.storage.spool import Spool
from hub.broker.session import IngestSettings, Session
from hub.broker.wire import Link, LinkError
from hub.store import SqliteStore
from hub.telemetry import rollups
from tests.hub.world import World
from tests.hub.world import world as open_world
from tests.support.intake import Clocks, intake, let_pass, wait_until_observed
from tests.support.mosquitto import Broker, Peer, wait_until
from tests.support.raw import Raw, publish
from tests.support.senders import Sender, Senders, without_power_cuts
from tests.support.uplinks import open_store, presence, result, rows, status, topic
from topics import codec
from topics.channels import UPLINK_LIMIT
from topics.messages import Attempt, Message

TIMEOUT_S = 120
"""The update timeout of the world's policy."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as broker:
        yield broker


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    folder = tmp_path / "hub"
    folder.mkdir()
    with open_world(folder) as made:
        made.trust_root()
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = open_store(tmp_path, "a", "b")
    yield store
    store.close()


def send(peer: Peer, device_id: str, message: Message, **options: Any) -> int:
    return peer.publish(topic(device_id, message), codec.encode(message), kind=codec.MSGPACK, **options)


def rolling(world: World) -> str:
    """A release under way in the canary segment, with a device `a` that is registered there."""
    release = world.publish(1)
    world.device("a")
    assert world.promote(release, "canary").status_code == 200
    return release


def canary(world: World, release: str) -> dict[str, int]:
    """The canary's row of a release's progress."""
    (row,) = [
        row
        for row in world.client.get(f"/releases/{release}/progress").json()["segments"]
        if row["segment"] == "canary"
    ]
    return {name: row[name] for name in ("began", "in_progress", "committed", "lost")}


def attempt_is(world: World, state: str) -> bool:
    return rows(world.store, "SELECT state FROM attempts") == [{"state": state}]


class TestSilence:
    """A device that began and was not heard of again, by the hub's observed time."""

    @pytest.fixture
    def clocks(self, world: World) -> Clocks:
        return Clocks(world.now)

    def judge(self, world: World, clocks: Clocks, observed_since: int) -> list[str]:
        world.now, world.observed_since = clocks.now, observed_since
        return world.judge()

    def test_r1_a_device_that_falls_silent_is_lost_halts_the_rollout_and_may_come_back(
        self, world: World, broker: Broker, clocks: Clocks
    ) -> None:
        release = rolling(world)
        with intake(broker, world.store, clocks=clocks) as slot, broker.device("a") as device:
            send(device, "a", result(1, "downloading", release))
            wait_until(lambda: attempt_is(world, "downloading"))
            let_pass(broker, slot, clocks, TIMEOUT_S - 20)
            assert self.judge(world, clocks, slot.observed_since) == []
            let_pass(broker, slot, clocks, 40)
            assert self.judge(world, clocks, slot.observed_since) == [release]
            assert world.state(release) == "halted"
            assert canary(world, release) == {"began": 1, "in_progress": 0, "committed": 0, "lost": 1}
            send(device, "a", result(2, "committed", release))
            wait_until(lambda: attempt_is(world, "committed"))
            assert canary(world, release) == {"began": 1, "in_progress": 0, "committed": 1, "lost": 0}

    def test_r1_nobody_is_lost_for_what_was_said_while_the_broker_was_away(
        self, world: World, broker: Broker, clocks: Clocks
    ) -> None:
        release = rolling(world)
        with intake(broker, world.store, clocks=clocks) as slot:
            with broker.device("a") as device:
                send(device, "a", result(1, "downloading", release))
                wait_until(lambda: attempt_is(world, "downloading"))
            broker.kill()
            wait_until(lambda: slot.problem)
            clocks.pass_by(10 * TIMEOUT_S)
            assert self.judge(world, clocks, slot.observed_since) == []
            broker.start()
            wait_until(lambda: slot.connections == 2)
            assert self.judge(world, clocks, slot.observed_since) == []
            wait_until_observed(slot, clocks)
            let_pass(broker, slot, clocks, TIMEOUT_S + 1)
            assert self.judge(world, clocks, slot.observed_since) == [release]

    def test_r1_nobody_is_lost_for_what_was_said_while_the_hubs_process_stood_still(
        self, world: World, broker: Broker, clocks: Clocks
    ) -> None:
        """It is judged before ingest has read what waits."""
        release = rolling(world)
        with intake(broker, world.store, clocks=clocks) as slot, broker.device("a") as device:
            send(device, "a", result(1, "downloading", release))
            wait_until(lambda: attempt_is(world, "downloading"))
            clocks.pass_by(10 * TIMEOUT_S)
            assert self.judge(world, clocks, slot.observed_since) == []
            let_pass(broker, slot, clocks, 1)
            assert self.judge(world, clocks, slot.observed_since) == []
            let_pass(broker, slot, clocks, TIMEOUT_S + 1)
            assert self.judge(world, clocks, slot.observed_since) == [release]

    @pytest.mark.parametrize("hours", [pytest.param(1, id="forward"), pytest.param(-24, id="back")])
    def test_r1_nobody_is_lost_because_the_hubs_clock_was_set(
        self, world: World, broker: Broker, clocks: Clocks, hours: int
    ) -> None:
        release = rolling(world)
        with intake(broker, world.store, clocks=clocks) as slot, broker.device("a") as device:
            send(device, "a", result(1, "downloading", release))
            wait_until(lambda: attempt_is(world, "downloading"))
            let_pass(broker, slot, clocks, TIMEOUT_S - 1)
            clocks.jump(hours * 3_600)
            assert self.judge(world, clocks, slot.observed_since) == []
            assert canary(world, release)["lost"] == 0
            send(device, "a", result(2, "committed", release))
            wait_until(lambda: attempt_is(world, "committed"))


def test_r12_a_report_that_device_and_broker_deliver_again_counts_once(
    world: World, broker: Broker, tmp_path: Path
) -> None:
    """The broker gives the same messages to a second life of ingest, and the device sends its own once more."""
    release = rolling(world)
    with intake(broker, world.store):
        pass
    messages: list[Message] = [result(1, "downloading", release), result(2, "committed", release), status(1)]
    with broker.device("a") as device:
        for message in messages:
            send(device, "a", message)
        with Link("127.0.0.1", broker.service_port, broker.service_files("svc.ingest-0").context()) as link:
            take_without_acknowledging(broker, link, len(messages))
        for message in messages:
            send(device, "a", message)
        with intake(broker, world.store) as slot:
            wait_until(lambda: slot.taken == 2 * len(messages))
    assert canary(world, release) == {"began": 1, "in_progress": 0, "committed": 1, "lost": 0}
    assert rows(world.store, "SELECT n FROM reports ORDER BY n") == [{"n": 1}, {"n": 2}]
    assert heartbeats(world.store, "a") == 1


def take_without_acknowledging(broker: Broker, link: Link, count: int) -> None:
    """Be an ingest that dies before its commit."""
    session = Session(link, IngestSettings("acme", broker.service_port))
    session.connect()
    deadline = time.monotonic() + 60
    while len(session.pending) < count:
        assert time.monotonic() < deadline
        link.wait(1)
        session.read()


def heartbeats(store: SqliteStore, device_id: str) -> int:
    """How many heartbeats of a device were counted."""
    (row,) = rows(
        store,
        "SELECT device_key, rollup FROM device_latest JOIN devices ON devices.key = device_key "
        "WHERE device_id = :id",
        id=device_id,
    )
    closed = rows(store, "SELECT count FROM rollups_5m WHERE device_key = :key", key=row["device_key"])
    counted: int = rollups.unpack(row["rollup"]).five.count + sum(bucket["count"] for bucket in closed)
    return counted


def test_d8_a_message_over_the_brokers_limit_costs_its_sender_the_connection_and_nobody_anything_else(
    broker: Broker, store: SqliteStore
) -> None:
    huge = Raw(topic("a", "update-result"), b"x" * (UPLINK_LIMIT + 10_000))
    with intake(broker, store) as slot, broker.device("b") as other:
        send(other, "b", result(1))
        with pytest.raises((LinkError, OSError)):
            publish(broker, "a", [huge])
        send(other, "b", result(2))
        good = Raw(topic("a", "update-result"), codec.encode(result(1)), codec.MSGPACK)
        assert publish(broker, "a", [good]) == {0: 1}
        wait_until(lambda: slot.taken == 3)
        assert (slot.connections, slot.refused, slot.problem) == (1, 0, "")
    found = rows(
        store, "SELECT device_id, n FROM reports JOIN devices ON devices.key = device_key ORDER BY 1, 2"
    )
    assert [(row["device_id"], row["n"]) for row in found] == [("a", 1), ("b", 1), ("b", 2)]


NOT_UTF8 = b"\xff\xfe\xfd\xfc"
SPOILED: list[tuple[str, dict[str, Any], bytes, bytes]] = [
    ("topic", {}, b"/a/up", b"/\xff/up"),
    ("content type", {"content_type": "text"}, b"text", NOT_UTF8),
    ("NUL", {"content_type": "text"}, b"text", b"a\x00bc"),
    ("response topic", {"response_topic": "text"}, b"text", NOT_UTF8),
    ("user property", {"user_properties": [("key", "text")]}, b"text", NOT_UTF8),
]
"""What is spoiled in a packet, how it is made, and which bytes are replaced by which."""


def test_d8_packets_whose_texts_are_none_cost_their_sender_the_connection_and_nobody_anything_else(
    broker: Broker, store: SqliteStore
) -> None:
    """Mosquitto stops them; what it lets through is set apart by ingest (`tests/hub/broker/test_wire.py`)."""
    with intake(broker, store) as slot, broker.device("b") as other:
        for n, (what, properties, before, after) in enumerate(SPOILED, start=1):
            packet = mqtt5.PublishPacket(
                topic("a", "status"), codec.encode(status(1)), qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1, **properties
            ).write()  # fmt: skip
            assert is_cut_off(broker, "a", packet.replace(before, after)), what
            send(other, "b", result(n))
        wait_until(lambda: slot.taken == len(SPOILED))
        assert (slot.connections, slot.refused, slot.problem) == (1, 0, "")


def is_cut_off(broker: Broker, device_id: str, packet: bytes) -> bool:
    """Whether the broker ends the connection of a device that sends `packet`, instead of acknowledging it."""
    deadline = time.monotonic() + 60
    with Link("127.0.0.1", broker.device_port, broker.device_files(device_id).context()) as link:
        link.send(mqtt5.ConnectPacket(device_id, clean_start=True, keep_alive=600).write())
        try:
            while time.monotonic() < deadline:
                link.wait(1)
                for heard in link.read()[0].packets:
                    if isinstance(heard, mqtt5.ConnAckPacket):
                        link.send(packet)
                    elif isinstance(heard, mqtt5.PubAckPacket):
                        return False
        except (LinkError, OSError):
            return True
    raise AssertionError("the broker does not answer")


def test_d14_reports_made_offline_survive_restarts_of_the_agent_and_count_once_though_sent_twice(
    broker: Broker, tmp_path: Path
) -> None:
    store = open_store(tmp_path, "a")
    with intake(broker, store):
        pass
    sender = Sender(broker, tmp_path, "a", 10, durable=1, begin=0)
    sender.make(10)  # never connected until now
    assert len(sender.spool) == 10
    senders = Senders([sender])
    for times in (1, 2):
        sender.restart()
        assert len(sender.spool) == 10, "no receipt yet"
        senders.run(lambda: sender.sent >= 10 * times and not sender.awaiting, "the broker's word")  # noqa: B023
    with intake(broker, store) as slot:
        senders.run(lambda: sender.is_done, "the receipt")
        wait_until(lambda: slot.taken >= 20, what="both copies of each")
    senders.close()
    found = rows(store, "SELECT n, release_id FROM reports ORDER BY n")
    assert [(row["n"], row["release_id"]) for row in found] == [(n, f"kiosk-{n}-abc") for n in range(1, 11)]
    assert rows(store, "SELECT COUNT(*) AS n FROM attempts") == [{"n": 10}]
    assert Spool.peek(tmp_path / "a.spool") == []
    store.close()


def test_h1_a_fleet_that_comes_back_all_at_once_is_taken_in_and_nobody_is_cut_off_again(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_power_cuts(monkeypatch)
    names = [f"device-{number}" for number in range(60)]
    store = open_store(tmp_path, *names)
    begin = int(time.time()) // 300 * 300 - 3_600
    senders = Senders(Sender(broker, tmp_path, name, 40, durable=2, begin=begin) for name in names)
    with intake(broker, store) as slot:
        senders.goal = 20
        senders.run(lambda: all(sender.made == 20 for sender in senders.all), "the first half")
        broker.kill()
        senders.run(lambda: all(sender.is_offline for sender in senders.all), "everybody off")
        wait_until(lambda: slot.problem)
        senders.goal = 40
        broker.start()
        senders.run(lambda: all(sender.is_done for sender in senders.all), "everybody's receipt")
        wait_until(lambda: slot.problem == "")
        assert [sender.connections for sender in senders.all] == [2] * len(names)
        assert slot.connections == 2
    senders.close()
    found = rows(store, "SELECT COUNT(*) AS n FROM reports GROUP BY device_key")
    assert found == [{"n": 20}] * len(names)
    store.close()


def test_h5_a_late_or_repeated_message_never_turns_a_finished_update_back(
    world: World, broker: Broker
) -> None:
    release = rolling(world)
    begun = Attempt(release=release, n=1, state="downloading")
    done = Attempt(release=release, n=1, state="committed")
    with intake(broker, world.store) as slot, broker.device("a") as device:
        send(device, "a", result(1, "downloading", release))
        send(device, "a", result(2, "committed", release))
        send(device, "a", status(9, attempt=done))
        wait_until(lambda: attempt_is(world, "committed"))
        seen = canary(world, release)
        late: list[Message] = [
            result(1, "downloading", release), result(3, "probation", release), status(8, attempt=begun),
            result(4, "downloading", release, spool="ffffffff"), presence("online"),
        ]  # fmt: skip
        for message in late:
            send(device, "a", message)
        wait_until(lambda: slot.taken == 3 + len(late))
    assert attempt_is(world, "committed")
    assert canary(world, release) == seen == {"began": 1, "in_progress": 0, "committed": 1, "lost": 0}
    assert rows(world.store, "SELECT seq FROM device_latest") == [{"seq": 9}]


def test_h6_a_queue_that_overflows_while_the_hub_is_down_is_told_and_no_report_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The devices are told that all is well: only the spool, which waits for the hub's receipt, saves their reports."""
    without_power_cuts(monkeypatch)
    names = [f"device-{number}" for number in range(4)]
    store = open_store(tmp_path, *names)
    begin = int(time.time()) // 300 * 300 - 6 * 3_600
    with Broker(tmp_path, max_queued_messages=100) as broker:
        senders = Senders(Sender(broker, tmp_path, name, 300, durable=10, begin=begin) for name in names)
        with intake(broker, store, batch=1):
            pass
        senders.goal = 300
        senders.run(
            lambda: all(sender.made == 300 and not sender.awaiting for sender in senders.all), "all sent"
        )
        assert any("messages are being dropped" in line for line in broker.log)
        accepted = sum(len(sender.accepted) for sender in senders.all)
        with intake(broker, store):
            senders.run(lambda: all(sender.is_done for sender in senders.all), "every receipt")
        senders.close()
    counted = sum(heartbeats(store, name) for name in names)
    assert counted < accepted == 4 * 270, "heartbeats were dropped, or this shows nothing"
    assert rows(store, "SELECT COUNT(*) AS n FROM reports GROUP BY device_key") == [{"n": 30}] * len(names)
    store.close()


def test_a_stale_will_read_back_after_a_restart_marks_nobody_offline(
    broker: Broker, store: SqliteStore
) -> None:
    """The will of an older connection was published last, so the broker has it retained."""
    with intake(broker, store), broker.device("a") as device:
        send(device, "a", presence("online", 2), retain=True)
        wait_until(lambda: rows(store, "SELECT 1 FROM presence"))
        send(device, "a", presence("offline", 1), retain=True)
    with intake(broker, store) as slot:
        wait_until(lambda: slot.taken)
    assert rows(store, "SELECT state, session FROM presence") == [{"state": "online", "session": 2}]


def test_a_clock_that_jumps_on_a_device_or_on_the_hub_loses_and_doubles_no_heartbeat(
    broker: Broker, store: SqliteStore
) -> None:
    clocks = Clocks(1_750_000_000_000)
    ages = [0, -50 * 365 * 86_400, 10 * 365 * 86_400, -3_600, 0, 40]
    with intake(broker, store, clocks=clocks, window=0.0) as slot, broker.device("a") as device:
        for seq, age in enumerate(ages, start=1):
            for _ in range(2):
                send(device, "a", status(seq, at=clocks.now // 1000 + age))
            wait_until(lambda: slot.taken == 2 * seq)  # noqa: B023
            clocks.jump(-7_200 if seq == 3 else 86_400 if seq == 4 else 1)
        assert slot.problem == ""
    assert heartbeats(store, "a") == len(ages)
    assert rows(store, "SELECT seq FROM device_latest") == [{"seq": len(ages)}]
