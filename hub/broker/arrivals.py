"""What ingest is handed: messages as the broker delivered them. The codec's own packet is one, so that nothing
is copied on the way from the socket to the store."""

from __future__ import annotations

from typing import NamedTuple

import mqtt5


class Uplink(NamedTuple):
    """One message, made by hand: what the HTTP twin of a topic and tests hand over.

    `duplicate` says that the broker marked it as a redelivery to us (DUP).
    """

    topic: str
    payload: bytes
    content_type: str | None = None
    duplicate: bool = False
    packet_id: int | None = None


class Garbled(NamedTuple):
    """A PUBLISH whose texts the codec cannot read; `packet_id` is None with QoS 0."""

    topic: str
    payload: bytes
    packet_id: int | None
    content_type: str | None = None
    duplicate: bool = False


Arrival = mqtt5.PublishPacket | Uplink | Garbled
