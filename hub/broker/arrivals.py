"""What ingest is handed: messages as the broker delivered them."""

from __future__ import annotations

import msgspec


class Uplink(msgspec.Struct, frozen=True, gc=False):
    """One message. `duplicate` says that the broker marked it as a redelivery to us (DUP); `packet_id` is None
    with QoS 0.

    A struct of ours instead of the codec's packet, because tens of thousands wait for each commit: the packet is
    three times as large and brings lists that the garbage collector walks over again and again.
    """

    topic: str
    payload: bytes
    content_type: str | None = None
    duplicate: bool = False
    packet_id: int | None = None


class Garbled(Uplink, frozen=True, gc=False):
    """A PUBLISH whose texts the codec cannot read; the topic is as near as can be."""
