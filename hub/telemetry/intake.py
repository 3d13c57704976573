"""Reports over HTTP: the way in for devices that cannot use MQTT.

A report is read, judged and stored by what ingest uses (`hub.broker.reduce`, `hub.broker.commit`), as if it had come
on the device's own topic. So it counts once whichever way it came, and what cannot be read goes to quarantine here too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hub.broker import commit
from hub.broker.arrivals import Uplink
from hub.broker.reduce import Refusal, reduce
from hub.errors import Forbidden
from hub.store import Store, Tx
from topics.channels import DESIRED, MANIFEST, Channel
from topics.heard import fingerprint
from topics.messages import Receipt


class Taken(NamedTuple):
    """What became of a report. `receipt` is None for kinds that have none, and for what tells no spool and n.

    A refused report has a receipt too if its number could be read: it is in quarantine, and need not be sent again.
    """

    receipt: Receipt | None
    refusal: Refusal | None


class Intake:
    """Takes in what devices of `fleet` post. `now` gives ms; `on_arrivals` is handed what was committed."""

    def __init__(
        self,
        store: Store,
        fleet: str,
        now: Callable[[], int],
        on_arrivals: Callable[[Sequence[Uplink]], None] = lambda _arrivals: None,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._now = now
        self._on_arrivals = on_arrivals
        self._counting = threading.Lock()
        self.taken = 0
        """Reports stored since the start."""
        self.refused = 0
        """Reports put in quarantine since the start."""

    def take(self, device_id: str, channel: Channel, body: bytes, content_type: str | None) -> Taken:
        """Store what `device_id` reports of itself.

        Raises `Forbidden` when it is no device of ours any more, `StoreBusy` and `StoreFull` when nothing is stored.
        """
        now = self._now()
        arrival = Uplink(channel.topic(self._fleet, id=device_id), body, content_type)
        batch = reduce([arrival], None, now // 1000)
        with self._store.write() as tx:
            outcome = commit.apply(tx, batch, now)
        with self._counting:
            self.refused += outcome.refused
            self.taken += 1 - outcome.refused
        if not outcome.refused_logs:
            self._on_arrivals([arrival])
        if outcome.refused and not batch.refusals:
            raise Forbidden(f"{device_id} is not a device of this hub any more.", rule="device")
        receipts = [Receipt(spool=spool, n=n) for (_, spool), n in outcome.receipts.items()]
        return Taken(receipts[0] if receipts else None, batch.refusals[0] if batch.refusals else None)

    def documents(self, device_id: str) -> str:
        """Return in one word what is there for a device to hear, "" for one that is not known any more."""
        with self._store.read() as tx:
            row = tx.one("SELECT role, segment FROM devices WHERE device_id = :id", {"id": device_id})
            root = tx.one("SELECT MAX(version) AS version FROM roots", {})
            if row is None or root is None:
                return ""
            manifest = MANIFEST.topic(self._fleet, role=row["role"], segment=row["segment"])
            desired = DESIRED.topic(self._fleet, id=device_id)
            return fingerprint(root["version"] or 0, _retained(tx, manifest), _retained(tx, desired))


def _retained(tx: Tx, topic: str) -> bytes:
    row = tx.one("SELECT payload FROM retained WHERE topic = :topic", {"topic": topic})
    return b"" if row is None else bytes(row["payload"])
