"""A client that publishes any bytes at all, thousands of them, fast."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import mqtt5

from hub.broker.wire import Link
from tests.support.mosquitto import Broker

WINDOW: Final = 500
"""Unacknowledged at once; Mosquitto is configured to take 1,000."""


class Raw(NamedTuple):
    """One message as it goes onto the wire."""

    topic: str
    body: bytes
    content_type: str | None = None


def publish(
    broker: Broker, device_id: str, messages: Sequence[Raw], *, seconds: float = 60.0
) -> Counter[int]:
    """Publish `messages` in order with QoS 1 as a device, and return how often each PUBACK reason came.

    Returns when all are acknowledged; fails after `seconds`, raises `LinkError` when the broker hangs up.
    """
    reasons: Counter[int] = Counter()
    sent, deadline = 0, time.monotonic() + seconds
    with Link("127.0.0.1", broker.device_port, broker.device_files(device_id).context()) as link:
        link.send(mqtt5.ConnectPacket(device_id, clean_start=True, keep_alive=600).write())
        connected = False
        while reasons.total() < len(messages):
            assert time.monotonic() < deadline, f"{reasons.total()} of {len(messages)} acknowledged"
            room = WINDOW - (sent - reasons.total()) if connected else 0
            chunk = messages[sent : sent + room]
            link.send(*[_packet(sent + place, message) for place, message in enumerate(chunk)])
            sent += len(chunk)
            link.wait(1.0)
            for packet in link.read()[0].packets:
                connected = connected or isinstance(packet, mqtt5.ConnAckPacket)
                if isinstance(packet, mqtt5.PubAckPacket):
                    reasons[int(packet.reason_code)] += 1
        link.send(mqtt5.DisconnectPacket().write())
    return reasons


def _packet(number: int, message: Raw) -> bytes:
    return mqtt5.PublishPacket(
        message.topic,
        message.body,
        qos=mqtt5.QoS.AT_LEAST_ONCE,
        packet_id=number % 60_000 + 1,
        content_type=message.content_type,
    ).write()
