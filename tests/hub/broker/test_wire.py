"""Cutting a byte stream into packets, whatever the stream holds."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path

import mqtt5
import pytest

from hub.broker.arrivals import Garbled
from hub.broker.wire import Link, LinkError, frame_size, parse, pubacks
from hub.identity.ca import open_authorities


def publish(topic: str, body: bytes, packet_id: int | None = 1) -> bytes:
    qos = mqtt5.QoS.AT_MOST_ONCE if packet_id is None else mqtt5.QoS.AT_LEAST_ONCE
    return mqtt5.PublishPacket(topic, body, qos=qos, packet_id=packet_id).write()


def garbled(packet_id: int | None = 1) -> bytes:
    """A PUBLISH whose topic is not UTF-8."""
    return publish("abc", b"body", packet_id).replace(b"abc", b"a\xffc")


def test_packets_that_arrive_together_are_cut_apart() -> None:
    data = publish("a", b"1") + mqtt5.PingRespPacket().write() + publish("b", b"2")
    parsed = parse(data)
    assert [uplink.topic for uplink in parsed.uplinks] == ["a", "b"]
    assert [type(packet) for packet in parsed.packets] == [mqtt5.PingRespPacket]
    assert parsed.used == len(data)


@pytest.mark.parametrize("size", [10, 100, 200, 20_000])
def test_a_packet_cut_anywhere_waits_for_its_rest(size: int) -> None:
    first, second = publish("a", b"1"), publish("b", b"x" * size)
    for cut in {0, 1, 2, 3, 5, len(second) // 2, len(second) - 1}:
        parsed = parse(first + second[:cut])
        assert (len(parsed.uplinks), parsed.used) == (1, len(first))


# The codec's panic is reported to the interpreter beside being raised.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        pytest.param(garbled(5), ("a\ufffdc", 5), id="to-be-acknowledged"),
        pytest.param(garbled(None), ("a\ufffdc", None), id="qos-0"),
    ],
)
def test_a_publish_that_is_not_utf8_is_set_apart_and_the_next_is_read(
    frame: bytes, expected: tuple[str, int | None]
) -> None:
    (broken, good), _, used = parse(frame + publish("good", b"x"))
    assert isinstance(broken, Garbled)
    assert (broken.topic, broken.packet_id) == expected
    assert broken.payload.endswith(b"body")
    assert not isinstance(good, Garbled)
    assert good.topic == "good"
    assert used == len(frame) + len(publish("good", b"x"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"\x30\xff\xff\xff\x7f" + b"x" * 100, "over the limit", id="endless-packet"),
        pytest.param(b"\x30\xff\xff\xff\xff\x7f", "malformed", id="length-of-five-bytes"),
        pytest.param(b"\x00\x00", "malformed", id="packet-type-0"),
    ],
)
def test_a_stream_that_is_not_mqtt_ends_the_connection(data: bytes, reason: str) -> None:
    with pytest.raises(LinkError, match=reason):
        parse(data)


@pytest.mark.parametrize(
    ("data", "size"),
    [(b"\x30\x05", 7), (b"\x30\x80\x01", 131), (b"\x30\x80", 0), (b"\x30", 0), (b"", 0)],
)
def test_a_packets_size_is_read_from_its_head(data: bytes, size: int) -> None:
    assert frame_size(data, 0) == size


def test_what_the_broker_says_before_it_hangs_up_is_heard(tmp_path: Path) -> None:
    """The last packet and the end of the stream often arrive together."""
    authority = open_authorities(tmp_path, "acme", now=int(time.time())).service
    (tmp_path / "server.pem").write_text("".join(authority.issue_server([], now=int(time.time()))))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "server.pem")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=authority.pem)

    def speak() -> None:
        connection, _ = listener.accept()
        with connection, server.wrap_socket(connection, server_side=True) as secure:
            farewell = mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SERVER_SHUTTING_DOWN)
            secure.sendall(farewell.write())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        speaker = threading.Thread(target=speak)
        speaker.start()
        with Link("127.0.0.1", listener.getsockname()[1], client) as link:
            heard: list[object] = []
            with pytest.raises(LinkError, match="closed the connection"):
                while True:
                    link.wait(5)
                    heard += link.read()[0].packets
        speaker.join()
    assert [type(packet) for packet in heard] == [mqtt5.DisconnectPacket]


def test_acknowledgements_are_what_the_codec_would_write() -> None:
    ids = [1, 255, 256, 65_535]
    assert pubacks(ids) == b"".join(mqtt5.PubAckPacket(packet_id).write() for packet_id in ids)
