"""Bytes that are no MQTT: the connection that sends them ends, and nobody else notices."""

from __future__ import annotations

import mqtt5
import pytest

from tests.hostile.harbour import BAD, F, Harbour

pytestmark = pytest.mark.heavy

CONNECT = mqtt5.ConnectPacket(BAD, clean_start=True, keep_alive=600).write()
OWN = f"{F}/v1/devices/{BAD}/up/status".encode()
TOPIC = len(OWN).to_bytes(2, "big") + OWN
ENDLESS = b"\xff\xff\xff\x7f"
"""A length of 256 MB, the largest there is."""


def packet(kind: int, body: bytes) -> bytes:
    """A control packet with its length as it should be."""
    size, length = b"", len(body)
    while True:
        length, digit = divmod(length, 128)
        size += bytes([digit | (0x80 if length else 0)])
        if not length:
            return bytes([kind]) + size + body


def connect(*, name: bytes = b"MQTT", version: int = 5, flags: int = 2, rest: bytes = b"") -> bytes:
    """A CONNECT with something wrong in it."""
    client = len(BAD).to_bytes(2, "big") + BAD.encode()
    head = len(name).to_bytes(2, "big") + name + bytes([version, flags]) + b"\x02\x58" + b"\x00"
    return packet(0x10, head + client + rest)


BEFORE = [
    pytest.param(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n", id="HTTP"),
    pytest.param(b"\x00" * 64, id="zeroes"),
    pytest.param(b"\xff" * 64, id="ones"),
    pytest.param(b"\x10" + b"\xff" * 5, id="a length that never ends"),
    pytest.param(b"\x10" + ENDLESS + b"\x00" * 4_096, id="a CONNECT of 256 MB"),
    pytest.param(packet(0x30, TOPIC + b"\x00x"), id="a PUBLISH before CONNECT"),
    pytest.param(packet(0x82, b"\x00\x01\x00\x00\x01#\x01"), id="a SUBSCRIBE before CONNECT"),
    pytest.param(packet(0xC0, b""), id="a PINGREQ before CONNECT"),
    pytest.param(packet(0x20, b"\x00\x00\x00"), id="a CONNACK from a client"),
    pytest.param(connect(name=b"MQTX"), id="another protocol"),
    pytest.param(connect(version=200), id="a version that does not exist"),
    pytest.param(connect(flags=3), id="a reserved flag"),
    pytest.param(connect(flags=0x1E), id="a will of QoS 3"),
    pytest.param(connect(flags=0x06), id="a will that does not follow"),
    pytest.param(packet(0x10, b"\x00\x04MQTT"), id="a CONNECT cut short"),
    pytest.param(packet(0x10, b"\xff\xffMQTT\x05\x02\x00\x00\x00\x00\x00"), id="a name longer than the packet"),
    pytest.param(connect(rest=b"\x00" * 200), id="a CONNECT with a tail"),
    pytest.param(
        packet(0x10, b"\x00\x04MQTT\x05\x02\x00\x3c\x06" + b"\x21\x00\x0a" * 2 + b"\x00\x00"), id="a property twice"
    ),
]  # fmt: skip

AFTER = [
    pytest.param(CONNECT, id="a second CONNECT"),
    pytest.param(packet(0x00, b""), id="the reserved packet"),
    pytest.param(packet(0x36, TOPIC + b"\x00\x01\x00x"), id="QoS 3"),
    pytest.param(packet(0x32, TOPIC + b"\x00\x00\x00x"), id="packet id 0"),
    pytest.param(packet(0x32, TOPIC), id="a PUBLISH without an id"),
    pytest.param(packet(0x30, b"\xff\xff" + OWN), id="a topic longer than the packet"),
    pytest.param(packet(0x30, b""), id="a PUBLISH of nothing"),
    pytest.param(b"\x30" + ENDLESS + TOPIC + b"\x00" * 4_096, id="a PUBLISH of 256 MB"),
    pytest.param(packet(0x30, TOPIC + b"\x00" + b"x" * 80_000), id="a PUBLISH over the limit"),
    pytest.param(packet(0x30, TOPIC + b"\xff\xff\xff\xff\x7fx"), id="properties of 34 GB"),
    pytest.param(packet(0x30, TOPIC + b"\x02\x7f\x00x"), id="a property that does not exist"),
    pytest.param(packet(0x30, TOPIC + b"\x03\x23\x00\x00x"), id="topic alias 0"),
    pytest.param(packet(0x30, b"\x00\x00\x03\x23\xff\xffx"), id="a topic alias nobody gave"),
    pytest.param(packet(0x30, b"\x00\x04\xc3\x28ab\x00x"), id="a topic that is not UTF-8"),
    pytest.param(packet(0x80, b"\x00\x01\x00\x00\x01a\x01"), id="a SUBSCRIBE with wrong flags"),
    pytest.param(packet(0x82, b"\x00\x01\x00"), id="a SUBSCRIBE to nothing"),
    pytest.param(packet(0x82, b"\x00\x01\x00\x00\x01a\x03"), id="a SUBSCRIBE of QoS 3"),
    pytest.param(packet(0x82, b"\x00\x01\x00\x00\x03a#b\x01"), id="a filter that is none"),
    pytest.param(packet(0x82, b"\x00\x01\x02\x0b\x00\x00\x01a\x01"), id="subscription id 0"),
    pytest.param(packet(0xA2, b"\x00\x01\x00"), id="an UNSUBSCRIBE from nothing"),
    pytest.param(packet(0x60, b"\x00\x01"), id="a PUBREL with wrong flags"),
    pytest.param(packet(0x40, b""), id="a PUBACK of nothing"),
    pytest.param(packet(0x40, b"\x00\x00"), id="a PUBACK of id 0"),
    pytest.param(packet(0xF0, b""), id="an AUTH that nobody asked for"),
]  # fmt: skip


@pytest.mark.parametrize("data", BEFORE)
def test_in_place_of_a_greeting(harbour: Harbour, data: bytes) -> None:
    with harbour.unharmed(), harbour.wire(connected=False) as wire:
        wire.send(data)
        refused = wire.ends()
        # A CONNACK may say why; never that all is well.
        assert refused[:1] != b"\x20" or refused[3] >= 0x80 or refused[3] in range(1, 6)


@pytest.mark.parametrize("data", AFTER)
def test_in_a_session(harbour: Harbour, data: bytes) -> None:
    with harbour.unharmed(), harbour.wire() as wire:
        wire.send(data)
        wire.ends()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(packet(0x90, b"\x00\x01\x00\x00"), id="a SUBACK from a client"),
        pytest.param(packet(0xD0, b""), id="a PINGRESP from a client"),
        pytest.param(packet(0x40, b"\x77\x77"), id="a PUBACK for what never came"),
    ],
)
def test_what_only_a_broker_says_is_passed_over(harbour: Harbour, data: bytes) -> None:
    with harbour.unharmed(), harbour.wire() as wire:
        wire.send(data + b"\xc0\x00")
        assert wire.receive() == b"\xd0\x00"
