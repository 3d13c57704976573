"""Devices that report over real MQTT: the agent's own spool and outbound, and heartbeats told apart in sums.

One thread drives all of them. A device's session lasts, and what the broker did not acknowledge goes out again after a
reconnect. Heartbeat number h of a device is 30 s after the one before, and its memory reading is 16 to the power of
h modulo 10: so the ten of five minutes are the ten hexadecimal digits of their sum, and each digit says how often that
heartbeat was counted.
"""

from __future__ import annotations

import random
import select
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

import mqtt5
import pytest

from edge.config import Settings
from edge.outbound import Outbound
from edge.storage.beats import Beats
from edge.storage.spool import Spool
from edge.storage.state import NO_SPOOL, Pending
from hub.broker.wire import Link, LinkError, Packet, pubacks
from tests.support.mosquitto import Broker
from topics import codec
from topics.channels import RECEIPT, STATUS
from topics.messages import Probes, Receipt, Status, UpdateResult

PERIOD_S: Final = 30
PER_BUCKET: Final = 300 // PERIOD_S
HEARTBEATS_ON_THEIR_WAY: Final = 50
_GONE: Final = (LinkError, OSError, ssl.SSLError)
ACCEPTED: Final = 0
"""PUBACK's reason when somebody has subscribed; 0x10 says that nobody has, so the broker kept nothing."""


def without_power_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let spools skip their fsyncs, half a second a thousand reports: only a power cut needs them, and a process that
    is killed does not."""
    for module in ("spool", "disk"):
        monkeypatch.setattr(f"edge.storage.{module}.os.fsync", lambda _descriptor: None)


class Way(NamedTuple):
    """How a device reaches the broker of a fleet."""

    fleet: str
    port: int
    context: ssl.SSLContext


class Sender:
    """One device that has `count` reports to send, every `durable`th of them an update result."""

    def __init__(
        self, way: Broker | Way, folder: Path, device_id: str, count: int, *, durable: int, begin: int
    ) -> None:
        if isinstance(way, Broker):
            way = Way(way.fleet, way.device_port, way.device_files(device_id).context())
        self._way = way
        self._spool_path = folder / f"{device_id}.spool"
        self._topic = STATUS.topic(way.fleet, id=device_id)
        self._receipts = RECEIPT.topic(way.fleet, id=device_id)
        self._count, self._durable, self._begin = count, durable, begin
        self._link: Link | None = None
        self._connect_at = 0.0
        self._ready = self._broken = False
        self._next_id = 0
        self._on_their_way: dict[int, int | None] = {}
        """Heartbeat by packet id; None for a report."""
        self._again: deque[int] = deque()
        self._boot, self._seq, self._serial = 1, 0, 0
        self.device_id = device_id
        self.made = 0
        """How many of its reports exist."""
        self.beats: list[tuple[int, int]] = []
        """Boot counter and seq of every heartbeat made."""
        self.forgotten: set[int] = set()
        """Heartbeats that a restart of the agent took with it before the broker had acknowledged them."""
        self.accepted: dict[int, int] = {}
        """Heartbeats that the broker took for the hub, and in which life of the broker."""
        self.published: set[int] = set()
        """Numbers of reports that were published at least once."""
        self.life = 0
        self.connections = 0
        """How often it came to the broker and subscribed."""
        self.sent = 0
        """Publishes of reports, repeated ones included."""
        self._start()

    def _start(self) -> None:
        self.spool = Spool(self._spool_path)
        self._outbound = Outbound(
            self,
            self.spool,
            Settings(resend_seconds=1),
            fleet=self._way.fleet,
            device_id=self.device_id,
            steady=time.monotonic,
            beats=Beats(self._spool_path.with_name(f"{self._spool_path.name}.beats")),
        )

    @property
    def is_done(self) -> bool:
        """Whether every report is made, everything published is acknowledged and the spool is empty."""
        return self.made == self._count and not (self.awaiting or len(self.spool))

    @property
    def is_offline(self) -> bool:
        """Whether it has no connection."""
        return self._link is None

    @property
    def awaiting(self) -> int:
        """How much was published, or has to be again, and is not acknowledged by the broker."""
        return len(self._on_their_way) + len(self._again)

    def restart(self) -> None:
        """The agent is killed and started: a new boot, the spool as it is on disk, nothing else."""
        self.forgotten |= {beat for beat in self._on_their_way.values() if beat is not None} | {*self._again}
        self._again.clear()
        self._lost(0.0)
        self._again.clear()
        self.spool.close()
        self._boot, self._seq = self._boot + 1, 0
        self._start()

    def close(self) -> None:
        """Leave without a word."""
        if self._link is not None:
            self._link.__exit__()
        self.spool.close()

    def make(self, upto: int) -> None:
        """Make reports until there are `upto`, as far as the broker keeps up."""
        upto = min(upto, self._count)
        while self.made < upto:
            if (self.made + 1) % self._durable == 0:
                self._serial += 1
                report = UpdateResult(
                    boot=(self._boot, "00000001"), at=self._begin, spool=NO_SPOOL, n=1, state="downloading",
                    release=f"kiosk-{self._serial}-abc", attempt=1,
                )  # fmt: skip
                body = codec.encode(report)
                self._outbound.take("update", [Pending(self._serial, "update-result", body)])
            elif len(self._on_their_way) < HEARTBEATS_ON_THEIR_WAY and self._ready:
                self._seq += 1
                self.beats.append((self._boot, self._seq))
                self._send_beat(len(self.beats) - 1)
            else:
                return
            self.made += 1

    def turn(self) -> int:
        """Connect, read and send what can be; returns the file descriptor to wait on, -1 for none."""
        try:
            if self._broken:
                raise LinkError("the connection broke")
            if self._link is None:
                self._connect()
            if self._link is not None:
                self._read()
                while self._again and self._ready and len(self._on_their_way) < HEARTBEATS_ON_THEIR_WAY:
                    self._send_beat(self._again.popleft())
                self._outbound.tick()
                self._link.flush()
        except _GONE:
            self._lost(random.uniform(0, 0.2))
        return self._link.fileno() if self._link is not None else -1

    def _connect(self) -> None:
        if time.monotonic() < self._connect_at:
            return
        self._link = Link("127.0.0.1", self._way.port, self._way.context)
        packet = mqtt5.ConnectPacket(self.device_id, keep_alive=600, session_expiry_interval=3600)
        self._link.send(packet.write())

    def _lost(self, pause: float) -> None:
        if self._link is not None:
            self._link.__exit__()
        self._link, self._ready, self._broken = None, False, False
        self._connect_at = time.monotonic() + pause
        beats = [beat for beat in self._on_their_way.values() if beat is not None]
        self._again.extendleft(reversed(beats))
        self._on_their_way.clear()
        self._outbound.disconnected()

    def _read(self) -> None:
        assert self._link is not None
        parsed, _ = self._link.read()
        for packet in parsed.packets:
            self._handle(packet)
        acks = [uplink.packet_id for uplink in parsed.uplinks if uplink.packet_id is not None]
        if acks:
            self._link.send(pubacks(acks))
        for uplink in parsed.uplinks:
            self._outbound.receipt(codec.decode(uplink.payload, Receipt, limit=1000))

    def _handle(self, packet: Packet) -> None:
        assert self._link is not None
        if isinstance(packet, mqtt5.ConnAckPacket):
            assert int(packet.reason_code) == 0, packet
            self._link.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(self._receipts)]).write())
        elif isinstance(packet, mqtt5.SubAckPacket):
            self._ready = True
            self.connections += 1
            self._outbound.connected()
            self._outbound.pump()
        elif isinstance(packet, mqtt5.PubAckPacket):
            beat = self._on_their_way.pop(packet.packet_id)
            if beat is None:
                self._outbound.published(packet.packet_id, int(packet.reason_code))
            elif int(packet.reason_code) == ACCEPTED:
                self.accepted[beat] = self.life

    def _send_beat(self, beat: int) -> None:
        boot, seq = self.beats[beat]
        status = Status(
            boot=(boot, "00000001"), at=self._begin + PERIOD_S * beat, seq=seq, role="kiosk", segment="canary",
            agent_version="1.0", probes=Probes(memory_used=16.0 ** (beat % PER_BUCKET)),
        )  # fmt: skip
        self._on_their_way[self._send(self._topic, codec.encode(status))] = beat

    def publish(self, topic: str, body: bytes, *, qos: int, retain: bool) -> int | None:
        """What the outbound sends a report by."""
        if not self._ready:
            return None
        self.sent += 1
        self.published.add(codec.decode(body, UpdateResult, limit=65_536).n)
        packet_id = self._send(topic, body)
        self._on_their_way[packet_id] = None
        return packet_id

    def _send(self, topic: str, body: bytes) -> int:
        assert self._link is not None
        self._next_id = self._next_id % 60_000 + 1
        packet = mqtt5.PublishPacket(
            topic, body, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=self._next_id, content_type=codec.MSGPACK
        )
        try:
            self._link.send(packet.write())
        except _GONE:
            self._broken = True  # seen at the next turn; until then it is on its way like any other
        return self._next_id

    # What else the agent's link has

    def subscribe(self, topics: list[tuple[str, int]]) -> None:
        """Never asked for here: receipts are all that this device hears."""
        raise AssertionError(topics)

    def unsubscribe(self, topics: list[str]) -> None:
        """Never asked for here."""
        raise AssertionError(topics)

    def drop(self, reason: str) -> None:
        """Never asked for here."""
        raise AssertionError(reason)


class Senders:
    """All devices of a test, and the loop that drives them."""

    def __init__(self, senders: Iterable[Sender]) -> None:
        self.all = list(senders)
        self.upto = self.goal = 0
        """How many reports each device may have made, and how many in a while: one more at every turn."""

    def run(self, until: Callable[[], bool], what: str, seconds: float = 100.0) -> None:
        """Drive the devices until `until` is true; fails after `seconds`."""
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
            self.upto = min(self.upto + 1, self.goal)
            poll = select.poll()
            for sender in self.all:
                descriptor = sender.turn()
                sender.make(self.upto)
                if descriptor >= 0:
                    poll.register(descriptor, select.POLLIN)
            poll.poll(10)

    def next_life(self) -> None:
        """The broker was killed: what it had acknowledged before may be gone."""
        for sender in self.all:
            sender.life += 1

    def close(self) -> None:
        """End all connections."""
        for sender in self.all:
            sender.close()
