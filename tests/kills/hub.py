"""The hub's voices on a real broker: it hears every report, receipts it, and remembers what came, in order."""

from __future__ import annotations

import queue
import threading

from hub.broker.reduce import Uplink
from tests.edge.world import DEVICE, FLEET
from tests.support.mosquitto import Broker
from topics import codec
from topics.channels import RECEIPT, UPLINK_LIMIT
from topics.messages import DURABLE_TYPES, Durable, Receipt


class Ear:
    """Hears one device until it is closed. What is lost on the way is lost here, too."""

    def __init__(self, broker: Broker) -> None:
        self._hoister = broker.service("svc.hoister")
        self._ingest = broker.service("svc.ingest-0")
        self._ingest.subscribe(f"{FLEET}/v1/devices/+/up/#")
        self._heard: list[Uplink] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def hoist(self, topic: str, body: bytes) -> None:
        """Retain a document."""
        assert self._hoister.publish(topic, body, retain=True) < 0x80

    def forget(self) -> None:
        """Begin a new life of the device."""
        self._heard.clear()

    def heard(self) -> list[Uplink]:
        """Return all that came since, in order, as often as it came."""
        return list(self._heard)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._hoister.close()
        self._ingest.close()

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                topic, body = self._ingest.receive(0.1)
            except queue.Empty:
                continue
            self._heard.append(Uplink(topic, body, codec.MSGPACK))
            kind = DURABLE_TYPES.get(topic.rpartition("/")[2])
            if kind is not None:
                report: Durable = codec.decode(body, kind, limit=UPLINK_LIMIT)
                receipt = codec.encode(Receipt(spool=report.spool, n=report.n))
                self._ingest.publish(RECEIPT.topic(FLEET, id=DEVICE), receipt)
