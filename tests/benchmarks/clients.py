"""What people build first: a client library, JSON, and SQLite, in a process of its own.

    python -m tests.benchmarks.clients paho|aiomqtt PORT MESSAGES FILE

Both keep one latest row per device, in batches, in the same file settings that the hub uses. paho acknowledges after
the commit (`manual_ack`); aiomqtt cannot, so what it holds is lost with it. Prints one JSON object; 0 messages make
the session.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.benchmarks.broker import FILTER, peak_mb

BATCH = 2_000
WINDOW_S = 0.05
SESSION_S = 86_400
RECEIVE_MAXIMUM = 65_535


class Rows:
    """The newest heartbeat of every device."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS latest (device_id TEXT PRIMARY KEY, boot INTEGER, seq INTEGER, at INTEGER, "
            "health TEXT, running TEXT, body BLOB)"
        )
        self._waiting: list[tuple[Any, ...]] = []
        self._since = 0.0

    def add(self, topic: str, payload: bytes) -> None:
        """Take in one heartbeat."""
        if not self._waiting:
            self._since = time.monotonic()
        body = json.loads(payload)
        running = body.get("running", {}).get("id")
        self._waiting.append(
            (topic.split("/")[3], body["boot"][0], body["seq"], body["at"], body.get("health", "ok"), running, payload)
        )  # fmt: skip

    def __len__(self) -> int:
        """How many wait for their commit."""
        return len(self._waiting)

    @property
    def due(self) -> bool:
        """Whether what waits should be committed."""
        waited = time.monotonic() - self._since
        return bool(self._waiting) and (len(self._waiting) >= BATCH or waited >= WINDOW_S)

    def commit(self) -> int:
        """Write what waits; return how many that was."""
        count = len(self._waiting)
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "INSERT INTO latest VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (device_id) DO UPDATE SET "
            "boot = excluded.boot, seq = excluded.seq, at = excluded.at, health = excluded.health, "
            "running = excluded.running, body = excluded.body "
            "WHERE excluded.boot > latest.boot OR (excluded.boot = latest.boot AND excluded.seq > latest.seq)",
            self._waiting,
        )
        self._connection.execute("COMMIT")
        self._waiting.clear()
        return count


def _session() -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = SESSION_S
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    return properties


def with_paho(port: int, messages: int, rows: Rows) -> None:
    """Drain with paho's own network loop."""
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id="bench-paho", protocol=paho.MQTTv5, manual_ack=True
    )
    unacknowledged: list[tuple[int, int]] = []
    taken = 0
    subscribed: list[int] = []

    def take(_client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        rows.add(message.topic, bytes(message.payload))
        unacknowledged.append((message.mid, message.qos))
        if rows.due:
            commit()

    def commit() -> None:
        nonlocal taken
        taken += rows.commit()
        for mid, qos in unacknowledged:
            client.ack(mid, qos)
        unacknowledged.clear()

    client.on_message = take
    client.on_connect = lambda *_: client.subscribe(FILTER, qos=1) and None
    client.on_subscribe = lambda *_: subscribed.append(1)
    client.connect("127.0.0.1", port, clean_start=False, properties=_session())
    while taken < messages or not (messages or subscribed):
        client.loop(WINDOW_S)
        if rows.due:
            commit()
    client.disconnect()
    client.loop(WINDOW_S)


async def with_aiomqtt(port: int, messages: int, rows: Rows) -> None:
    """Drain with its message iterator."""
    taken = 0
    async with aiomqtt.Client(
        "127.0.0.1",
        port,
        identifier="bench-aiomqtt",
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=False,
        properties=_session(),
    ) as client:
        if not messages:
            await client.subscribe(FILTER, qos=1)
            return  # the session keeps it; asked again, the answer would come behind the whole backlog
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            rows.add(message.topic.value, message.payload)
            if rows.due or taken + len(rows) >= messages:
                taken += rows.commit()
                if taken >= messages:
                    return


def main() -> None:
    kind, port, messages, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Rows(Path(sys.argv[4]))
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    if kind == "paho":
        with_paho(port, messages, rows)
    else:
        asyncio.run(with_aiomqtt(port, messages, rows))
    ended = time.perf_counter()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": ended - began, "cpu": cpu, "memory": peak_mb()}))


if __name__ == "__main__":
    main()
