"""The MQTT session of an ingest slot: subscriptions, what waits for a commit, acknowledgements and receipts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import mqtt5

from hub.broker.arrivals import Uplink
from hub.broker.wire import Link, LinkError, Packet, pubacks
from topics import codec
from topics.channels import DURABLE, LOG, PRESENCE, RECEIPT, SITE_UPLINKS, STATUS, Principal
from topics.messages import Receipt

KEEPALIVE: Final = 60
SESSION_SECONDS: Final = 14 * 86_400
"""How long the broker keeps what it queues for a slot that is away."""
CONNECT_SECONDS: Final = 15.0
WINDOW_LIMIT: Final = 0.25
"""Seconds after which a batch ends whatever there is: reports must be seen within a second."""
BATCH_BYTES: Final = 16 * 1024 * 1024
PENDING_BYTES: Final = 64 * 1024 * 1024
"""Beyond this much that waits for its commit nothing more is read until the store takes it."""
RETRY_SECONDS: Final = 0.5
"""Pause before a commit that the store refused is tried again."""


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """Where and how a slot takes in.

    A batch ends `window` seconds after its first message. While the broker has more to give it goes on to
    `WINDOW_LIMIT` or `batch` messages, because the more heartbeats of a device share a write, the less one costs.
    With more than one slot they share subscriptions under `share_group`, which must be secret: whoever guesses it
    could take a share of the reports.
    """

    fleet: str
    port: int
    host: str = "127.0.0.1"
    slot: int = 0
    slots: int = 1
    share_group: str = ""
    batch: int = 28_000
    window: float = 0.05

    @property
    def name(self) -> str:
        """Client id and certificate CN of the slot."""
        return f"{Principal.INGEST.value}-{self.slot}"

    @property
    def receive_maximum(self) -> int:
        """How many messages the broker may have unacknowledged with us."""
        return min(65_535, max(10_000, 3 * self.batch))  # so that the broker goes on while we commit

    def subscriptions(self) -> list[mqtt5.TopicFilter]:
        """Return the filters of this slot.

        Presence is never shared, because a share group gets no retained messages: slot 0 takes all of it, anew
        at every connection. Log lines come as they are sent, once at most: they are for looking back.
        """
        share = f"$share/{self.share_group}/" if self.slots > 1 else ""
        names = {channel.name for channel in (STATUS, *DURABLE, LOG)}
        reports = [
            channel
            for channel in (STATUS, *DURABLE, LOG, *SITE_UPLINKS)
            if channel.name.removeprefix("site-") in names
        ]
        filters = [
            mqtt5.TopicFilter(
                share + channel.filter(self.fleet),
                max_qos=mqtt5.QoS(channel.qos),
                retain_handling=mqtt5.RetainHandling.SEND_NEVER,
            )
            for channel in reports
        ]
        if self.slot == 0:
            filters += [
                mqtt5.TopicFilter(channel.filter(self.fleet), max_qos=mqtt5.QoS.AT_LEAST_ONCE)
                for channel in (PRESENCE, *SITE_UPLINKS)
                if channel.name.removeprefix("site-") == PRESENCE.name
            ]
        return filters


class Session:
    """One connection's worth of state. Raises `LinkError` when the broker refuses or goes away."""

    def __init__(self, link: Link, settings: IngestSettings) -> None:
        self._link = link
        self._settings = settings
        self._sent_at = self._heard_at = time.monotonic()
        self._first_at = 0.0
        self._retry_at = 0.0
        self._deaf_since: float | None = None
        self._drained = False
        self._pending_bytes = 0
        self._quota = 0
        self._next_id = 1
        self._outstanding: set[int] = set()
        self._receipts: dict[tuple[str, str], int] = {}
        self.pending: list[Uplink] = []
        """What has arrived and is not committed, in order."""
        self.subscribed = False
        """Whether the broker has granted every subscription."""

    @property
    def caught_up(self) -> bool:
        """Whether everything the broker has sent is committed."""
        return self.subscribed and self._drained and not self.pending

    def connect(self) -> None:
        """Ask for the persistent session."""
        packet = mqtt5.ConnectPacket(
            self._settings.name,
            clean_start=False,
            keep_alive=KEEPALIVE,
            session_expiry_interval=SESSION_SECONDS,
            receive_max=self._settings.receive_maximum,
        )
        self._send(packet.write())

    def wait(self, wake: int) -> None:
        """Return when there is something to do, or `wake` is readable."""
        self._link.wait(self._seconds_to_next(), wake, reading=not self._is_full)

    def read(self) -> None:
        """Take up what has arrived."""
        if self._is_full:
            return
        parsed, self._drained = self._link.read()
        now = time.monotonic()
        if parsed.used:
            self._heard_at = now
            if not self.pending:
                self._first_at = now
        uplinks = parsed.uplinks
        if len(self.pending) + len(uplinks) > self._settings.receive_maximum:
            # QoS 0 has no flow control, so it alone could grow without end while the store refuses.
            uplinks = [uplink for uplink in uplinks if uplink.packet_id is not None]
        self.pending += uplinks
        self._pending_bytes += parsed.used
        for packet in parsed.packets:
            self._handle(packet)

    @property
    def _is_full(self) -> bool:
        # The receive maximum bounds how many wait; this bounds how large they are.
        return self._pending_bytes > PENDING_BYTES

    def is_due(self) -> bool:
        """Whether what is pending should be committed now."""
        if not self.pending:
            return False
        now = time.monotonic()
        window = self._settings.window if self._drained else WINDOW_LIMIT
        full = len(self.pending) >= self._settings.batch or self._pending_bytes > BATCH_BYTES
        due = (full or now >= self._first_at + window) and now >= self._retry_at
        self._deaf_since = now if due else None
        return due

    def postpone(self) -> None:
        """The store refused: try again later."""
        self._listen_again()
        self._retry_at = time.monotonic() + RETRY_SECONDS

    def _listen_again(self) -> None:
        # What the broker said during a long commit is not read yet, so that time was not its silence.
        if self._deaf_since is not None:
            self._heard_at += time.monotonic() - self._deaf_since
            self._deaf_since = None

    def _seconds_to_next(self) -> float:
        now = time.monotonic()
        next_at = self._sent_at + KEEPALIVE / 2
        if self.pending:
            next_at = min(next_at, max(self._first_at + self._settings.window, self._retry_at))
        return max(0.0, next_at - now)

    def keep_alive(self) -> None:
        """Send PINGREQ in time; give up on a broker that has fallen silent."""
        now = time.monotonic()
        # Counted from what was heard last: the answer to SUBSCRIBE comes behind all that is queued for us.
        if not self.subscribed and now > self._heard_at + CONNECT_SECONDS:
            raise LinkError("the broker does not answer")
        if self._is_full:
            self._heard_at = now  # it is we who do not listen
        elif now > self._heard_at + KEEPALIVE * 1.5:
            raise LinkError("the broker has fallen silent")
        if now >= self._sent_at + KEEPALIVE / 2:
            self._send(mqtt5.PingReqPacket().write())
        self._link.flush()

    def acknowledge(self, count: int) -> None:
        """Tell the broker that the first `count` pending messages are committed."""
        self._listen_again()
        done, self.pending, self._pending_bytes = self.pending[:count], self.pending[count:], 0
        acks = [packet_id for arrival in done if (packet_id := arrival.packet_id) is not None]
        if acks:
            self._send(pubacks(acks))

    def send_receipts(self, receipts: dict[tuple[str, str], int]) -> None:
        """Tell devices up to which n their spools are committed. Of several that wait, the newest counts."""
        self._receipts |= receipts
        packets = []
        while self._receipts and len(self._outstanding) < self._quota:
            (device_id, spool), n = next(iter(self._receipts.items()))
            del self._receipts[device_id, spool]
            packets.append(self._receipt(device_id, Receipt(spool=spool, n=n)))
        if packets:
            self._send(*packets)

    def disconnect(self) -> None:
        """Leave in good order; the broker keeps the session."""
        self._send(mqtt5.DisconnectPacket().write())

    def _receipt(self, device_id: str, receipt: Receipt) -> bytes:
        while self._next_id in self._outstanding:
            self._next_id = self._next_id % 65_535 + 1
        self._outstanding.add(self._next_id)
        return mqtt5.PublishPacket(
            RECEIPT.topic(self._settings.fleet, id=device_id),
            codec.encode(receipt),
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            packet_id=self._next_id,
            content_type=codec.MSGPACK,
        ).write()

    def _handle(self, packet: Packet) -> None:
        if isinstance(packet, mqtt5.PubAckPacket):
            self._outstanding.discard(packet.packet_id)
            self.send_receipts({})
        elif isinstance(packet, mqtt5.ConnAckPacket):
            _check(packet.reason_code, "the connection")
            self._quota = packet.receive_max
            self._send(mqtt5.SubscribePacket(1, self._settings.subscriptions()).write())
        elif isinstance(packet, mqtt5.SubAckPacket):
            for code in packet.reason_codes:
                _check(code, "a subscription")
            self.subscribed = True
        elif isinstance(packet, mqtt5.DisconnectPacket):
            raise LinkError(f"the broker ended the session ({_words(packet.reason_code)})")

    def _send(self, *packets: bytes) -> None:
        self._link.send(*packets)
        self._sent_at = time.monotonic()


def _check(reason: mqtt5.ConnAckReasonCode | mqtt5.SubAckReasonCode, what: str) -> None:
    if int(reason) >= 0x80:
        raise LinkError(f"the broker refused {what} ({_words(reason)})")


def _words(reason: mqtt5.ConnAckReasonCode | mqtt5.SubAckReasonCode | mqtt5.DisconnectReasonCode) -> str:
    return reason.name.lower().replace("_", " ")
