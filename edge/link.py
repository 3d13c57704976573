"""The MQTT connection: paho without its loops, on a selector of ours.

Callbacks only put events in a list, in order; the runner hands them to the agent. A new client is made for
every connection, so nothing of an old one is sent again by the library: what must be sent again is the
spool's business.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.keepalive import Keepalive
from edge.machine import clock
from topics.codec import MSGPACK

PACKET_LIMIT: Final = 128 * 1024
"""Largest packet that is received; the largest message of ours has 64 KiB."""
ANSWER_SECONDS: Final = 20.0
"""A broker, or what stands in its place, that took the connection and does not answer within this is none."""
READS: Final = 64
"""Packets read before other events get their turn."""

_ALERTS: Final = {
    "CERTIFICATE_REVOKED": "the broker says that this device's certificate was revoked; enrol again with a new token "
    "(a device that was revoked has to be deleted at the hub first)",
    "CERTIFICATE_EXPIRED": "the broker says that this device's certificate has expired; check both clocks, or enrol "
    "again",
    # OpenSSL's word for a certificate that is not valid yet, among others.
    "BAD_CERTIFICATE": "the broker refuses this device's certificate; by the broker's clock it may not be valid yet: "
    "check both clocks, or enrol again",
}
"""What TLS alerts of the broker mean here."""

_UNSPECIFIED: Final = 0x80

log = logging.getLogger("flaghoist")


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker accepted us."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone, or was never made."""

    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message."""

    topic: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Published:
    """The broker acknowledged or refused (0x80 and above) a publish."""

    mid: int
    reason_code: int


Event = Connected | Disconnected | Received | Published


class MqttLink:
    """One connection at a time. `Link` of `edge.outside`, plus what the runner needs."""

    def __init__(
        self,
        host: str,
        port: int,
        client_id: str,
        keepalive: int,
        *,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """`keepalive` is in seconds, `steady` a monotonic clock in s."""
        self._host, self._port = host, port
        self._client_id = client_id
        self._keepalive, self._steady = keepalive, steady
        self._silence: Keepalive | None = None
        self._client: mqtt.Client | None = None
        self._events: list[Event] = []
        self._answer_by: float | None = None
        self._trouble = ""
        self._most_aliases = 0
        self._aliases: dict[str, int] = {}

    def open(self, context: ssl.SSLContext, will_topic: str = "", will_body: bytes = b"") -> None:
        """Begin a connection, with a last will if it has a topic; events tell the outcome.

        Waits for TCP and TLS, at most some seconds.
        """
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self._client_id, protocol=mqtt.MQTTv5)
        client.tls_set_context(context)
        client.connect_timeout = 10.0
        if will_topic:
            will = _typed(PacketTypes.WILLMESSAGE)
            client.will_set(will_topic, will_body, qos=1, retain=True, properties=will)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_log = self._on_log
        self._trouble = ""
        limits = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        limits.MaximumPacketSize = PACKET_LIMIT
        self._client = client
        self._answer_by = self._silence = None
        self._most_aliases, self._aliases = 0, {}
        try:
            client.connect(self._host, self._port, self._keepalive, properties=limits)
        except (OSError, ValueError) as error:
            self._client = None
            self._events.append(Disconnected(f"{error}{clock.blamed(error)}"))
        else:
            self._answer_by = self._steady() + ANSWER_SECONDS

    def events(self) -> list[Event]:
        """Return what has happened since the last call."""
        events, self._events = self._events, []
        return events

    def socket(self) -> Any:
        """The socket to watch, or None."""
        return self._client.socket() if self._client else None

    @property
    def wants_write(self) -> bool:
        """Whether something waits until the socket takes more."""
        return bool(self._client and self._client.want_write())

    @property
    def deadline(self) -> float | None:
        """When `misc` is wanted, on the monotonic clock."""
        if self.socket() is None:
            return None
        return self._answer_by if self._silence is None else self._silence.deadline

    def readable(self) -> None:
        """Read what is there."""
        for _ in range(READS):
            client, sock = self._client, self.socket()
            if client is None or sock is None:
                return
            self._check(client.loop_read())
            if self._silence is not None:
                self._silence.heard(self._steady())
            # paho reads any size that is announced; a broker that we do not trust may not fill our memory.
            if client._in_packet["to_process"] > PACKET_LIMIT:
                self.drop("the broker sends a packet larger than any of ours")
                return
            sock = self.socket()
            # TLS may hold decrypted bytes that no selector sees.
            if sock is None or not sock.pending():
                return

    def has_more(self) -> bool:
        """Whether TLS holds bytes that the selector will not tell of."""
        sock = self.socket()
        return sock is not None and sock.pending() > 0

    def writable(self) -> None:
        """Write what waits."""
        if self._client:
            self._check(self._client.loop_write())

    def misc(self) -> None:
        """Send pings and notice a silent broker, when it is time to."""
        now = self._steady()
        if self._answer_by is not None and now >= self._answer_by:
            self._answer_by = None
            self.drop("the broker took the connection and does not answer")
        if self._client is None or self._silence is None:
            return
        match self._silence.due(now):
            case "ping":
                # Not by paho's own rule: it overlooks what it sends itself, and so pings beside every heartbeat.
                self._check(self._client._send_pingreq())
                self._sent(asks=True)
            case "dead":
                self.drop("the broker has fallen silent")

    def _sent(self, *, asks: bool) -> None:
        if self._silence is not None:
            self._silence.sent(self._steady(), asks=asks)

    def publish(self, topic: str, body: bytes, *, qos: int, retain: bool) -> int | None:
        """Send; see `edge.outside.Link`."""
        if self._client is None:
            return None
        topic, properties = self._addressed(topic)
        info = self._client.publish(topic, body, qos=qos, retain=retain, properties=properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return None
        self._sent(asks=qos > 0)
        return info.mid

    def _addressed(self, topic: str) -> tuple[str, Properties]:
        """Return topic and properties of a publish: once the broker knows the topic by a number, nothing but that.

        A content type goes without saying then, since a body's first byte tells it as well.
        """
        known = self._aliases.get(topic)
        if known is not None:
            short = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            short.TopicAlias = known
            return "", short
        properties = _typed(PacketTypes.PUBLISH)
        if len(self._aliases) < self._most_aliases:
            self._aliases[topic] = properties.TopicAlias = len(self._aliases) + 1
        return topic, properties

    def subscribe(self, topics: list[tuple[str, int]]) -> None:
        """Ask for topics, in this order: the root must come before what it signs for."""
        if self._client:
            self._client.subscribe(topics)
            self._sent(asks=True)

    def unsubscribe(self, topics: list[str]) -> None:
        """Ask for topics no more."""
        if self._client:
            self._client.unsubscribe(topics)
            self._sent(asks=True)

    def drop(self, reason: str) -> None:
        """End the connection without a goodbye."""
        sock = self.socket()
        if sock is not None:
            sock.close()
        if self._client is not None:
            self._client = None
            self._events.append(Disconnected(reason))

    def close(self) -> None:
        """End the connection in good order: the broker drops the last will."""
        if self._client:
            self._client.disconnect()
            self._client = None

    def _check(self, code: int) -> None:
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS and self._client is not None and self.socket() is None:
            self._lost(mqtt.error_string(MQTTErrorCode(code)))

    def _lost(self, reason: str) -> None:
        self._client = None
        self._events.append(Disconnected(reason))

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, code: Any, props: Any) -> None:
        if code.is_failure:
            self._lost(f"the broker refused the connection: {code}")
        else:
            self._answer_by = None
            # A broker may ask for another keepalive than ours.
            seconds = getattr(props, "ServerKeepAlive", 0) or self._keepalive
            self._silence = Keepalive(seconds, self._steady())
            self._most_aliases = getattr(props, "TopicAliasMaximum", 0)
            self._events.append(Connected())

    def _on_disconnect(self, client: Any, _data: Any, _flags: Any, code: Any, _props: Any) -> None:
        if client is self._client:
            # paho's name for a connection that ended without a word is "Unspecified error".
            ended = "the broker ended the connection" if code == _UNSPECIFIED else str(code)
            self._lost(_words(self._trouble) or ended)

    def _on_log(self, _client: Any, _data: Any, level: int, text: str) -> None:
        # With TLS 1.3 a refused certificate is told at the first read, and paho tells that only here.
        if level == mqtt.MQTT_LOG_ERR:
            self._trouble = text

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            self._events.append(Received(message.topic, bytes(message.payload)))
        except UnicodeDecodeError:
            log.warning("a message came on a topic that is not text; it is passed over")

    def _on_publish(self, _client: Any, _data: Any, mid: int, code: Any, _props: Any) -> None:
        self._events.append(Published(mid, code.value))

    def _on_subscribe(self, _client: Any, _data: Any, _mid: int, codes: Any, _props: Any) -> None:
        for code in codes:
            if code.is_failure:
                log.warning("the broker refused a subscription: %s", code)


def _words(trouble: str) -> str:
    return next((words for alert, words in _ALERTS.items() if alert in trouble), trouble)


def _typed(packet: int) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    properties.ContentType = MSGPACK
    return properties
