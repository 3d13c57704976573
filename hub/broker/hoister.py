"""Hoisting: a reconciler between what the store says each retained topic must hold and what the broker holds.

The broker's own delivery is the only proof: the hoister subscribes to the topics it writes, so every publish
comes back, and a topic counts as hoisted when what came back equals the store. That catches a publish that
the broker acknowledged and lost, an older one that landed last, and anything that a stranger put there.

Rules:

1. One publish in flight per topic; after it comes back the store is read again, until both are equal.
2. After each connect the broker is read back first, and only what differs is published.
3. A topic the store knows nothing of is cleared.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable
from typing import Final

import aiomqtt
import structlog
from aiomqtt import Client, Message, MqttError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from hub.store import Store, StoreBusy
from hub.wake import Wake
from topics.channels import DESIRED, MANIFEST, TRUST_ROOT, WAKE, Principal
from topics.codec import MSGPACK
from topics.trust import sha256

ECHO_TIMEOUT_S: Final = 10.0
BACKOFF_S: Final = (0.2, 10.0)
ECHO_LIMIT: Final = 1_000_000
_SETTLED: Final = b"read back"

_log = structlog.get_logger("hub.hoister")


class NotHeldError(Exception):
    """The broker acknowledged a publish and does not hold it."""


class Hoister:
    """Runs until cancelled. `connect` makes a fresh client; `problem` is empty while all is well."""

    def __init__(self, store: Store, fleet: str, connect: Callable[[], Client]) -> None:
        self._store = store
        self._fleet = fleet
        self._connect = connect
        self.wake = Wake()
        """To be called when the store may have changed."""
        self._changed = asyncio.Condition()
        self._held: dict[str, str] = {}
        self._suspect: set[str] = set()
        self._summaries: dict[str, bytes] = {}
        self._unsent: dict[str, bytes] = {}
        self._tell = asyncio.Event()
        self._revision = 0
        self._settled = False
        self.published = 0
        """How many publishes came back."""
        self.problem = "not connected yet"
        """One sentence while the broker does not hold what it should, else empty."""

    def tell(self, topic: str, payload: bytes) -> None:
        """Put a summary on its topic, retained, as soon as there is a connection. On the event loop.

        Of several for one topic the newest counts. Nothing depends on summaries, so QoS 0 does.
        """
        self._summaries[topic] = payload
        self._unsent[topic] = payload
        self._tell.set()

    async def run(self) -> None:
        """Connect and reconcile, again and again, with full jitter between failures."""
        with self.wake.heard():
            await self._keep_connected()

    async def _keep_connected(self) -> None:
        failures = 0
        while True:
            try:
                async with self._connect() as client:
                    failures = 0
                    await self._session(client)
            except (MqttError, NotHeldError, StoreBusy, TimeoutError) as error:
                self.problem = f"the broker does not hold what it should: {error}"
                _log.warning("hoister disconnected", error=str(error))
            ceiling = min(BACKOFF_S[1], BACKOFF_S[0] * 2**failures)
            failures = min(failures + 1, 10)
            await asyncio.sleep(random.uniform(0, ceiling))  # noqa: S311  (jitter, not a secret)

    async def _session(self, client: Client) -> None:
        self._held.clear()
        self._suspect.clear()
        self._settled, self._revision = False, 0
        self._unsent = dict(self._summaries)
        tasks = [
            asyncio.create_task(part(client), name=f"hoister-{part.__name__}")
            for part in (self._read, self._write, self._summarise)
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
                with contextlib.suppress(
                    asyncio.CancelledError, MqttError, NotHeldError, TimeoutError, StoreBusy
                ):
                    await task

    async def _read(self, client: Client) -> None:
        wake = WAKE.topic(self._fleet)
        filters = [channel.filter(self._fleet) for channel in (TRUST_ROOT, MANIFEST, DESIRED)]
        await client.subscribe([(name, 1) for name in (*filters, wake)])
        # What is retained is delivered before this, which goes through the same queue behind it.
        await client.publish(wake, _SETTLED, qos=1)
        async for message in client.messages:
            topic, payload = str(message.topic), _payload(message)
            async with self._changed:
                if topic == wake:
                    self._settled = self._settled or payload == _SETTLED
                    self.wake.set()
                else:
                    self._hold(topic, payload)
                self._changed.notify_all()

    def _hold(self, topic: str, payload: bytes) -> None:
        if payload:
            self._held[topic] = sha256(payload)
        else:
            self._held.pop(topic, None)
        self._suspect.add(topic)
        self.wake.set()

    async def _write(self, client: Client) -> None:
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(lambda: self._settled), ECHO_TIMEOUT_S * 3)
        while True:
            self.wake.clear()
            suspects, self._suspect = self._suspect, set()
            changed, self._revision = await asyncio.to_thread(self._changed_since, self._revision)
            for topic in dict.fromkeys([*changed, *sorted(suspects)]):
                await self._hoist(client, topic)
            self.problem = ""
            if not self._suspect:
                await self.wake.wait()

    async def _hoist(self, client: Client, topic: str) -> None:
        """Publish what the store wants on `topic` until it has come back and the store still wants it."""
        while True:
            wanted = await asyncio.to_thread(self._wanted, topic)
            digest = sha256(wanted) if wanted else None
            if self._held.get(topic) == digest:
                return
            await client.publish(topic, wanted, qos=1, retain=True, properties=_properties())
            async with self._changed:
                try:
                    await asyncio.wait_for(
                        self._changed.wait_for(lambda want=digest: self._held.get(topic) == want),  # type: ignore[misc]
                        ECHO_TIMEOUT_S,
                    )
                except TimeoutError:
                    raise NotHeldError(f"{topic} was published and did not come back") from None
            self.published += 1
            _log.info("hoisted", topic=topic, bytes=len(wanted))

    async def _summarise(self, client: Client) -> None:
        while True:
            self._tell.clear()
            while self._unsent:
                topic, payload = self._unsent.popitem()
                await client.publish(topic, payload, qos=0, retain=True)
                if not payload and not self._unsent.get(topic):
                    self._summaries.pop(topic, None)
            await self._tell.wait()

    def _changed_since(self, revision: int) -> tuple[list[str], int]:
        with self._store.read() as tx:
            rows = tx.all(
                "SELECT topic, revision FROM retained WHERE revision > :revision ORDER BY revision",
                {"revision": revision},
            )
        return [row["topic"] for row in rows], rows[-1]["revision"] if rows else revision

    def _wanted(self, topic: str) -> bytes:
        with self._store.read() as tx:
            row = tx.one("SELECT payload FROM retained WHERE topic = :topic", {"topic": topic})
        return bytes(row["payload"]) if row else b""


def client(host: str, port: int, context: object) -> Client:
    """Return an unconnected client of the service listener with the hoister's certificate in `context`."""
    return Client(
        host,
        port,
        identifier=Principal.HOISTER.value,
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=context,  # type: ignore[arg-type]
        clean_start=True,
        keepalive=30,
        timeout=ECHO_TIMEOUT_S,
        max_queued_incoming_messages=ECHO_LIMIT,
        # A publish and its echo are one small packet each way; Nagle's algorithm would hold each for 40 ms.
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )


def _payload(message: Message) -> bytes:
    return message.payload if isinstance(message.payload, bytes) else b""


def _properties() -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = MSGPACK
    return properties
