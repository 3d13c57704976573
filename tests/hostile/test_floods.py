"""Floods: too many messages, too many subscriptions, too many connections, and a client that takes nothing in."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import mqtt5
import pytest

from hub.broker.abuse.floods import MOST
from hub.broker.wire import Link, LinkError
from tests.hostile.harbour import BAD, PATIENCE, SPOOL, F, Harbour, Wire
from tests.support.mosquitto import Broker, wait_until
from topics import codec
from topics.channels import RECEIPT, STATUS, UPDATE_RESULT, UPLINKS
from topics.messages import UpdateResult

pytestmark = pytest.mark.heavy

PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"
MANIFESTS = f"{F}/v1/releases/+/+"


def subscribe(*filters: str, packet_id: int = 1) -> bytes:
    """One SUBSCRIBE."""
    wanted = [mqtt5.TopicFilter(text, max_qos=mqtt5.QoS.AT_LEAST_ONCE) for text in filters]
    return mqtt5.SubscribePacket(packet_id, wanted).write()


def report(n: int, qos: mqtt5.QoS = mqtt5.QoS.AT_LEAST_ONCE, name: str = BAD) -> bytes:
    """A durable report of the hostile device."""
    body = UpdateResult(boot=(1, "00000001"), at=1, spool=SPOOL, n=n, state="downloading")
    topic = UPDATE_RESULT.topic(F, id=name)
    return mqtt5.PublishPacket(topic, codec.encode(body), qos=qos, packet_id=n % 60_000 + 1).write()


def test_a_flood_of_qos_2_that_is_never_released(harbour: Harbour) -> None:
    """What is not released goes to nobody, and ends with the session."""
    with harbour.unharmed(), harbour.wire() as wire:
        # Numbers that no other test sends.
        wire.send(b"".join(report(n, mqtt5.QoS.EXACTLY_ONCE) for n in range(10_001, 13_001)) + PINGREQ)
        while (answer := wire.receive()) and not answer.endswith(PINGRESP):
            pass
    shown = harbour.fleet.get(f"/telemetry/devices/{BAD}")["reports"]
    assert [one["n"] for one in shown if one["spool"] == SPOOL and one["n"] > 10_000] == []


def test_a_subscriber_that_never_acknowledges(harbour: Harbour) -> None:
    with harbour.unharmed(), harbour.wire() as wire:
        wire.send(subscribe(RECEIPT.topic(F, id=BAD)))
        for n in range(1, 201):
            wire.send(report(n))
            assert wire.receive()


def unread(wire: Wire, times: int) -> None:
    """Ask for every manifest so many times, and read nothing."""
    wire.send(b"".join(subscribe(MANIFESTS, packet_id=n) for n in range(1, times + 1)))


def test_a_reader_that_reads_nothing(harbour: Harbour) -> None:
    with harbour.unharmed(), harbour.wire() as wire:
        unread(wire, 200)


def test_a_reader_that_reads_nothing_and_asks_on_is_put_out(harbour: Harbour, tmp_path: Path) -> None:
    """Otherwise the broker would keep for it, without end, what it asked for."""
    name = "glutton"
    harbour.files[name] = harbour.forged(tmp_path, name)
    with harbour.unharmed(), harbour.wire(name) as wire:
        unread(wire, 1_000)
        wire.ends()
    (why,) = wait_until(lambda: harbour.told("device.evicted", name), what="the event")
    assert why == "subscribed more than 240 times within a minute"


def test_thousands_of_forbidden_filters_at_once_are_one_offence(harbour: Harbour, tmp_path: Path) -> None:
    name = "legion"
    harbour.files[name] = harbour.forged(tmp_path, name)
    with harbour.unharmed(), harbour.wire(name) as wire:
        wire.send(subscribe(*[f"a/{n}/#" for n in range(5_000)]))
        wire.ends()
    assert len(wait_until(lambda: harbour.told("device.evicted", name), what="the event")) == 1


def test_retained_junk_on_everything_it_may_write(harbour: Harbour) -> None:
    """Seven topics is all a device has; what is on them goes to quarantine, and an empty body clears them."""
    topics = [channel.topic(F, id=BAD) for channel in UPLINKS]
    with harbour.unharmed(quarantine=True), harbour.peer(BAD) as bad:
        before = harbour.quarantined()
        for topic in topics:
            assert bad.publish(topic, b"\xff" * 60_000, retain=True) in (0, 0x10)
        wait_until(lambda: harbour.quarantined() == before + len(topics), what="the quarantine")
        for topic in topics:
            bad.publish(topic, b"", retain=True)


@pytest.mark.parametrize("handshake", [pytest.param(False, id="TCP"), pytest.param(True, id="TLS")])
def test_connections_that_say_nothing(harbour: Harbour, handshake: bool) -> None:
    with harbour.unharmed(), ExitStack() as stack:
        for _ in range(50 if handshake else 300):
            if handshake:
                stack.enter_context(harbour.wire(connected=False))
            else:
                stack.enter_context(socket.create_connection(("127.0.0.1", harbour.port), timeout=PATIENCE))
        harbour.peer(BAD).close()


def test_a_client_that_comes_and_goes(harbour: Harbour) -> None:
    with harbour.unharmed():
        for _ in range(50):
            with harbour.wire():
                pass


def test_connections_beyond_the_limit_leave_room_for_the_hub(tmp_path: Path) -> None:
    """Whatever devices take, the service listener answers."""
    with Broker(tmp_path, max_connections=5) as broker, ExitStack() as stack:
        for number in range(5):
            stack.enter_context(broker.device(f"shop-{number}"))
        files = broker.device_files("shop-9")
        with (
            pytest.raises((OSError, LinkError)),
            Link("127.0.0.1", broker.device_port, files.context()) as link,
        ):
            link.send(mqtt5.ConnectPacket("shop-9", clean_start=True).write())
            link.wait(PATIENCE)
            link.read()
        broker.service("svc.hoister").close()


def test_a_device_that_floods_is_muted_and_costs_the_others_nothing(harbour: Harbour) -> None:
    """All that the other sends meanwhile is stored; the flood ends at the broker."""
    name = "torrent"
    harbour.files[name] = harbour.enrol(name)
    topic = STATUS.topic(F, id=name)
    burst = mqtt5.PublishPacket(topic, b"\x80").write() * (MOST + 1_000)
    mine: list[int] = []
    with harbour.unharmed(quarantine=True), harbour.wire(name) as wire:
        answer = b""
        while not answer.endswith(b"\x87"):
            # All of it within one window, however slow the machine.
            wire.send(burst)
            mine.append(harbour.report())
            wire.send(report(1, name=name))
            answer = wire.receive()[:5]
            assert len(mine) < 100, "it is never muted"
        shown = harbour.fleet.get("/telemetry/devices/shop-1?limit=500")["reports"]
        assert set(mine) <= {one["n"] for one in shown}
    (why,) = wait_until(lambda: harbour.told("device.muted", name), what="the event")
    assert why.startswith("sent more than 5000 messages within 10 s")
