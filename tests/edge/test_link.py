"""What a connection to the broker costs in pings and bytes, and that a dead one is noticed."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Final, Self, TypeVar

import mqtt5
import pytest

from edge.keepalive import Keepalive
from edge.link import Connected, Disconnected, Event, MqttLink, Published
from tests.support import tls
from topics.codec import MSGPACK

KEEPALIVE: Final = 360
HEARTBEAT: Final = 300
PATIENCE: Final = 60.0
Packet = TypeVar("Packet")


@pytest.mark.parametrize(
    ("steps", "now", "due", "deadline"),
    [
        pytest.param([], 359, "", 360, id="nothing is due before the keepalive is over"),
        pytest.param([], 360, "ping", 360, id="an idle connection pings"),
        pytest.param(
            ["300 asks", "301 heard"], 600, "", 660, id="a heartbeat that is answered spares the ping"
        ),
        pytest.param(
            ["300 asks", "301 heard"], 660, "ping", 660, id="one keepalive after the last heartbeat it pings"
        ),
        pytest.param(["300 says"], 360, "ping", 360, id="what asks for no answer shows nothing: it pings"),
        pytest.param(
            ["300 heard"], 360, "ping", 360, id="a broker that was only listened to gives us up: it pings"
        ),
        pytest.param(["300 asks"], 600, "", 660, id="an answer that is owed needs no ping to be asked for"),
        pytest.param(["300 asks"], 660, "dead", 660, id="an answer that is owed for a keepalive never comes"),
        pytest.param(["300 asks", "600 asks"], 660, "dead", 660, id="asking again gives no more time"),
        pytest.param(
            ["300 asks", "650 heard"], 660, "ping", 660, id="whatever comes shows that the broker is there"
        ),
        pytest.param(["360 asks", "361 heard"], 720, "ping", 720, id="one ping after the other"),
        pytest.param(["360 asks"], 720, "dead", 720, id="a ping without answer"),
    ],
)
def test_what_is_due(steps: list[str], now: float, due: str, deadline: float) -> None:
    keepalive = Keepalive(KEEPALIVE, 0.0)
    for step in steps:
        at, what = step.split()
        if what == "heard":
            keepalive.heard(float(at))
        else:
            keepalive.sent(float(at), asks=what == "asks")
    assert (keepalive.due(now), keepalive.deadline) == (due, deadline)


class FakeBroker:
    """Takes one client at a time and notes what it sends; answers nothing while `is_dead`."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.asks_for = self.aliases = 0
        self.is_dead = self.hangs_up = False
        self.got: Queue[object] = Queue()
        self.thread = threading.Thread(target=self.serve)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(PATIENCE)

    def serve(self) -> None:
        # A client that is done hangs up without a goodbye.
        with (
            contextlib.suppress(OSError),
            self.listener.accept()[0] as plain,
            self.context.wrap_socket(plain, server_side=True) as client,
        ):
            received = b""
            while piece := client.recv(4096):
                received += piece
                while received:
                    packet, size = mqtt5.read(memoryview(received))
                    received = received[size:]
                    self.got.put(packet)
                    if self.hangs_up:
                        client.unwrap()
                        return
                    if not self.is_dead:
                        client.sendall(self.answer(packet))

    def next(self, kind: type[Packet]) -> Packet:
        """Return what comes next, which is to be a `kind`."""
        packet = self.got.get(timeout=PATIENCE)
        assert isinstance(packet, kind)
        return packet

    def answer(self, packet: object) -> bytes:
        match packet:
            case mqtt5.ConnectPacket():
                return mqtt5.ConnAckPacket(
                    server_keep_alive=self.asks_for or None, topic_alias_max=self.aliases
                ).write()
            case mqtt5.PublishPacket(packet_id=int(number)):
                return mqtt5.PubAckPacket(number).write()
            case mqtt5.PingReqPacket():
                return mqtt5.PingRespPacket().write()
            case _:
                return b""


class Device:
    """A link on a clock that the test sets; it turns as the agent's loop does."""

    def __init__(self, broker: FakeBroker, ca: Path) -> None:
        self.broker, self.ca = broker, ca
        self.now = 0.0
        self.link = MqttLink("127.0.0.1", broker.port, "shop-12", KEEPALIVE, steady=lambda: self.now)

    def connect(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        self.link.open(context)
        assert isinstance(self.event(), Connected)
        self.broker.next(mqtt5.ConnectPacket)

    def event(self) -> Event:
        """Return the next thing that happens by what comes."""
        while not (events := self.link.events()):
            self.read()
        (event,) = events
        return event

    def read(self) -> None:
        assert self.link.has_more() or select.select([self.link.socket()], [], [], PATIENCE)[0], (
            "nothing came"
        )
        self.link.readable()

    def heartbeat(self, at: float) -> int:
        self.now = at
        self.link.misc()
        mid = self.link.publish("t", b"body", qos=1, retain=False)
        self.broker.next(mqtt5.PublishPacket)
        assert mid is not None
        return mid

    def turn(self, at: float) -> list[Event]:
        self.now = at
        self.link.misc()
        return self.link.events()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[FakeBroker]:
    with FakeBroker(tls.server(tmp_path)[0]) as broker:
        yield broker


@pytest.fixture
def device(broker: FakeBroker, tmp_path: Path) -> Iterator[Device]:
    device = Device(broker, tmp_path / "ca.pem")
    yield device
    device.link.drop("over")


def test_a_device_with_heartbeats_pings_nobody(device: Device, broker: FakeBroker) -> None:
    device.connect()
    for beat in range(1, 6):
        mid = device.heartbeat(beat * HEARTBEAT)
        assert device.event() == Published(mid, 0)
    assert device.link.deadline == 5 * HEARTBEAT + KEEPALIVE, "the next heartbeat comes before"
    # One that is left out is told of by a ping, and the broker's answer to it puts the next one off.
    assert device.turn(5 * HEARTBEAT + KEEPALIVE) == []
    broker.next(mqtt5.PingReqPacket)
    device.read()
    assert device.link.deadline == 5 * HEARTBEAT + 2 * KEEPALIVE


def test_a_broker_that_hangs_up_is_told_in_words(device: Device, broker: FakeBroker) -> None:
    """As when another machine connects with a copy of this device's identity."""
    device.connect()
    broker.hangs_up = True
    device.heartbeat(HEARTBEAT)
    assert device.event() == Disconnected("the broker ended the connection")


@pytest.mark.parametrize("beats", [pytest.param(True, id="heartbeat"), pytest.param(False, id="ping")])
def test_a_broker_that_answers_nothing_any_more_is_noticed(
    device: Device, broker: FakeBroker, beats: bool
) -> None:
    device.connect()
    broker.is_dead = True
    asked = HEARTBEAT if beats else KEEPALIVE
    if beats:
        device.heartbeat(asked)
    else:
        device.turn(asked)
        broker.next(mqtt5.PingReqPacket)
    assert device.turn(asked + KEEPALIVE - 1) == []
    assert device.turn(asked + KEEPALIVE) == [Disconnected("the broker has fallen silent")]
    assert device.link.socket() is None


def test_a_broker_may_want_to_hear_more_often(device: Device, broker: FakeBroker) -> None:
    broker.asks_for = 60
    device.connect()
    assert device.link.deadline == 60


def test_what_was_said_once_is_not_said_again(device: Device, broker: FakeBroker) -> None:
    broker.aliases = 1
    device.connect()

    def sent(topic: str) -> tuple[str, int | None, str | None]:
        device.link.publish(topic, b"\x80", qos=1, retain=False)
        packet = broker.next(mqtt5.PublishPacket)
        return packet.topic, packet.topic_alias, packet.content_type

    assert sent("up/status") == ("up/status", 1, MSGPACK)
    assert sent("up/status") == ("", 1, None)
    assert sent("up/drift") == ("up/drift", None, MSGPACK), "the broker takes no more numbers"
