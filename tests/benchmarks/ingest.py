"""How fast ingest takes in heartbeats, without and with a broker.

    python -m tests.benchmarks.ingest [--messages 100000] [--devices 5000] [--connections 50]

`reduce and commit` is the hub's own work on one core. `drained over TLS` is a backlog in Mosquitto, published
by real device connections while ingest was away, taken in by one slot over its TLS connection.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import mqtt5
import msgspec

from hub.broker import commit
from hub.broker.ingest import Ingest, IngestSettings
from hub.broker.reduce import Uplink, reduce
from hub.broker.wire import Link
from hub.store import SqliteStore
from hub.times import now_ms
from tests.support.mosquitto import Broker, wait_until
from tests.support.uplinks import open_store, rows, status, topic, uplink
from topics import codec
from topics.messages import Probes, Running

BATCH = 2_000


def heartbeat(seq: int) -> bytes:
    """A body of the usual size, about 200 bytes."""
    running = Running(id="kiosk-7-3f2a9c1b5d4e", sequence=7, since=1_700_000_000)
    probes = Probes(cpu_load=0.3, memory_used=0.5, disk_used=0.25, disk_free=10**9, uptime=86_400)
    return codec.encode(status(seq, running=running, probes=probes, trusted_manifest=1_700_000_000_000))


def reduced(store: SqliteStore, names: list[str], messages: int) -> float:
    """Messages a second through reduce and commit."""

    def arrivals() -> Iterator[Uplink]:
        for i in range(messages):
            arrival = uplink(names[i % len(names)], status(1))
            yield msgspec.structs.replace(arrival, payload=bodies[i // len(names)])

    bodies = [heartbeat(seq) for seq in range(messages // len(names) + 1)]
    uplinks, spent = arrivals(), 0.0
    while batch := list(islice(uplinks, BATCH)):
        began = time.perf_counter()
        with store.write() as tx:
            commit.apply(tx, reduce(batch), now_ms())
        spent += time.perf_counter() - began
    return messages / spent


def fill(broker: Broker, names: list[str], messages: int) -> None:
    """Publish `messages` heartbeats with QoS 1 from one connection a device; return when all are PUBACKed."""
    bodies = [heartbeat(seq) for seq in range(messages // len(names))]
    for name in names:
        context = broker.device_files(name).context()
        with Link("127.0.0.1", broker.device_port, context) as link:
            link.send(mqtt5.ConnectPacket(name, clean_start=True).write())
            acked, sent = -1, 0
            while acked < len(bodies):
                link.wait(10)
                packets, _ = link.read()
                acked += len(packets)
                while sent < len(bodies) and sent - acked < 500:
                    packet = mqtt5.PublishPacket(
                        topic(name, "status"),
                        bodies[sent],
                        qos=mqtt5.QoS.AT_LEAST_ONCE,
                        packet_id=sent % 60_000 + 1,
                        content_type=codec.MSGPACK,
                    )
                    sent += 1
                    link.send(packet.write())
                if acked + 1 > len(bodies):
                    break
                acked = min(acked, sent)


def drained(folder: Path, store: SqliteStore, names: list[str], messages: int) -> float:
    """Messages a second that one slot takes in from a backlog."""
    with Broker(folder) as broker:
        settings = IngestSettings("acme", broker.service_port, batch=BATCH)
        files = broker.service_files(settings.name)
        first = Ingest(store, settings, files, now=now_ms)
        first.start()
        wait_until(lambda: first.connections)
        first.stop()
        fill(broker, names, messages)
        slot = Ingest(store, settings, files, now=now_ms)
        expected = messages // len(names) * len(names)
        began = time.perf_counter()
        slot.start()
        wait_until(lambda: slot.taken >= expected, seconds=120, what="the backlog's end")
        spent = time.perf_counter() - began
        slot.stop()
        return expected / spent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--devices", type=int, default=5_000)
    parser.add_argument("--connections", type=int, default=50)
    options = parser.parse_args()
    names = [f"device-{i}" for i in range(options.devices)]
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder), *names)
        print(f"reduce and commit   {reduced(store, names, options.messages):>9,.0f} messages/s")
        with store.write() as tx:
            tx.execute("DELETE FROM device_latest")
        rate = drained(Path(folder), store, names[: options.connections], options.messages)
        print(f"drained over TLS    {rate:>9,.0f} messages/s")
        assert len(rows(store, "SELECT 1 FROM device_latest")) == options.connections
        store.close()


if __name__ == "__main__":
    main()
