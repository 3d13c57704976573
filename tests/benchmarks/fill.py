"""Publishes heartbeats as a fleet would have sent them, one a minute a device, as fast as the broker takes them.

    python -m tests.benchmarks.fill PORT DEVICES MESSAGES BOOT FIRST RATE BAD [FOLDER NAME]

Over one raw connection with QoS 1; ends when every message is PUBACKed. FIRST is the number of the first heartbeat of
every device, RATE 0 is unbounded, BAD is how many malformed bodies are strewn among them. With FOLDER, over TLS as the
service NAME whose files are there.
"""

from __future__ import annotations

import random
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mqtt5

from hub.broker.credentials import Credentials
from tests.benchmarks.broker import FLEET
from topics import codec
from topics.messages import Probes, Running, Status

INFLIGHT = 1_000
"""Mosquitto's own receive maximum in the hub's configuration."""
CHUNK = 200
PUBACK_BYTES = 4
HISTORY_S = 40 * 3_600


def device_names(count: int) -> list[str]:
    """Ids of the fleet."""
    return [f"device-{number}" for number in range(count)]


def heartbeat(seq: int, boot: int, at: int) -> bytes:
    """A JSON body of about 200 bytes."""
    probes = Probes(
        cpu_load=seq * 37 % 100 / 100,
        memory_used=0.54,
        disk_used=0.27,
        temperature=40 + seq % 20,
        uptime=60 * seq,
    )
    running = Running(id="kiosk-7-3f2a9c1b5d4e", sequence=7)
    status = Status(
        boot=(boot, "3fa9c1b5"), at=at, seq=seq, role="kiosk", segment="canary", agent_version="1.0",
        running=running, probes=probes,
    )  # fmt: skip
    return codec.encode(status, codec.JSON)


JUNK = [
    b"", b"\x00" * 50, b"\xde\xff\xff", b"{" * 5_000, b"\x81\xa1a" * 2_000, b'{"seq": NaN}',
    b'{"seq": 99999999999999999999}', b"x" * 60_000, b'{"boot": "one"}', b"[1, 2]", b"\x82\xa3seq\xc0\xa2at\x01",
]  # fmt: skip


def packets(devices: int, messages: int, boot: int, first: int, bad: int) -> Iterator[bytes]:
    """PUBLISH packets, every device in turn, heartbeats `first` and following."""
    chance = random.Random(boot)
    topics = [f"{FLEET}/v1/devices/{name}/up/status" for name in device_names(devices)]
    rounds = -(-messages // devices)
    begin = int(time.time()) - HISTORY_S
    strewn = set(chance.sample(range(messages), bad))
    number = 0
    for seq in range(first, first + rounds):
        body = heartbeat(seq, boot, begin + 60 * seq)
        for topic in topics[: messages - number]:
            for payload in [chance.choice(JUNK), body] if number in strewn else [body]:
                yield mqtt5.PublishPacket(
                    topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=number % 60_000 + 1,
                    content_type=codec.JSON if payload is body else None,
                ).write()  # fmt: skip
            number += 1


def publish(link: socket.socket, everything: Iterator[bytes], rate: float) -> None:
    """Send all, never more than `INFLIGHT` unacknowledged."""
    sent = acked = 0
    began = time.monotonic()
    link.sendall(mqtt5.ConnectPacket("bench-fill", clean_start=True).write())
    link.recv(1024)
    more = True
    while more or acked < sent:
        chunk: list[bytes] = []
        while more and len(chunk) < CHUNK:
            packet = next(everything, None)
            more = packet is not None
            if packet is not None:
                chunk.append(packet)
        link.sendall(b"".join(chunk))
        sent += len(chunk)
        while acked < sent and (sent - acked > INFLIGHT - CHUNK or not more):
            heard = link.recv(1 << 16)
            assert heard, "the broker closed the generator's connection"
            got = len(heard)
            while got % PUBACK_BYTES:
                got += len(link.recv(PUBACK_BYTES - got % PUBACK_BYTES))
            acked += got // PUBACK_BYTES
        if rate:
            time.sleep(max(0.0, began + sent / rate - time.monotonic()))


def main() -> None:
    port, devices, messages, boot, first, rate, bad = map(int, sys.argv[1:8])
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = plain
        if len(sys.argv) > 8:
            folder, name = Path(sys.argv[8]), sys.argv[9]
            files = Credentials(folder / "service-ca.pem", folder / f"{name}.pem", folder / f"{name}.key")
            link = files.context().wrap_socket(plain, server_hostname="127.0.0.1")
        publish(link, packets(devices, messages, boot, first, bad), rate)


if __name__ == "__main__":
    main()
