"""What leaves the device: presence, heartbeats in their order, and the spool, in order, until the hub's receipt.

A PUBACK only says that the broker has a report; the spool forgets it at the hub's receipt alone. Reports that
stay without one are sent again after `resend_seconds`, doubling; so are those the broker refused (0x80 and
above: an access list that is not right yet), which must not be counted as delivered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from edge.config import Settings
from edge.outside import Link
from edge.storage.beats import Beats
from edge.storage.spool import Spool
from edge.storage.state import Pending
from topics import codec
from topics.channels import BY_NAME
from topics.errors import DecodeError
from topics.messages import DURABLE_TYPES, Message, Receipt, Status

WINDOW: Final = 16
"""Reports that may be on their way at once; fewer than a broker's usual receive maximum of 20."""
MAX_RESEND: Final = 3600.0

log = logging.getLogger("flaghoist")


class Outbound:
    """Sends messages of one device. `steady` is a monotonic clock in s."""

    def __init__(
        self,
        link: Link,
        spool: Spool,
        settings: Settings,
        *,
        fleet: str,
        device_id: str,
        steady: Callable[[], float],
        beats: Beats,
    ) -> None:
        self._link = link
        self._spool = spool
        self._settings = settings
        self._fleet = fleet
        self._device_id = device_id
        self._steady = steady
        self._online = False
        self._sent = 0
        self._mids: set[int] = set()
        self._resend_at: float | None = None
        self._wait = settings.resend_seconds
        self._beats = beats
        self._beats_sent: set[int] = set()
        self._beats_out = 0

    @property
    def depth(self) -> int:
        """Reports without a receipt."""
        return len(self._spool)

    @property
    def awaiting(self) -> int:
        """Publishes that the broker has not acknowledged."""
        return len(self._mids)

    @property
    def deadline(self) -> float | None:
        """When `tick` is wanted, on the monotonic clock; None for never."""
        return self._resend_at if self._online else None

    def topic(self, channel: str) -> str:
        """Return this device's topic of a channel."""
        return BY_NAME[channel].topic(self._fleet, id=self._device_id)

    def connected(self) -> None:
        """A new connection stands: everything without a receipt goes out again at the next `pump`."""
        self._online, self._sent, self._wait = True, 0, self._settings.resend_seconds
        self._mids.clear()
        self._beats_sent.clear()

    def disconnected(self) -> None:
        """Nothing can go out now."""
        self._online, self._resend_at = False, None
        self._mids.clear()
        self._beats_sent.clear()

    def send(self, channel: str, message: Message) -> None:
        """Publish a message that is not kept."""
        if self._online:
            self._publish(channel, codec.encode(message))

    def heartbeat(self, status: Status) -> None:
        """Send a heartbeat behind those that wait; it waits too while nobody is there to hear it."""
        body = codec.encode(status)
        if self._online and not self._beats:
            self._publish("status", body)
        else:
            self._beats.keep(status.at, body)
            self.pump()

    def take(self, source: str, pending: list[Pending]) -> bool:
        """Move an outbox into the spool and send it; False when some of it must stay. Raises `OSError`."""
        for report in pending:
            try:
                encode = _encoder(report)
            except DecodeError as error:
                # It would be refused by the hub as well, and must not keep the agent from its work for ever.
                log.warning("a report that nobody could read is left out: %s: %s", report.channel, error)
                continue
            if not self._append(source, report, encode):
                return False
        self.pump()
        return True

    def forget_old(self, now: int) -> None:
        """Forget reports that help nobody any more at `now` (s, of a clock that may be believed). Raises `OSError`."""
        self._spool.forget_old(now)

    def receipt(self, receipt: Receipt) -> None:
        """Forget what the hub has committed."""
        gone = self._spool.receipt(receipt.spool, receipt.n)
        if gone:
            self._sent = max(0, self._sent - gone)
            self._wait = self._settings.resend_seconds
            self._resend_at = None
            self.pump()

    def published(self, mid: int, reason_code: int) -> None:
        """The broker answered a publish."""
        self._mids.discard(mid)
        if mid in self._beats_sent:
            self._beat_published(mid, arrived=reason_code < 0x80)
        if reason_code >= 0x80:
            log.warning(
                "the broker refused a message (reason 0x%02x); reports are kept and sent again", reason_code
            )
            self._sent = 0
            self._arm()

    def tick(self) -> None:
        """Send again what has waited long enough for its receipt."""
        if self._resend_at is not None and self._steady() >= self._resend_at:
            self._resend_at = None
            self._sent = 0
            self.pump()
            self._wait = min(self._wait * 2, MAX_RESEND)

    def pump(self) -> None:
        """Send reports that were not sent on this connection, as many as may be on their way."""
        if not self._online:
            return
        for entry in self._spool.reports[self._sent : WINDOW]:
            if self._publish(entry.channel, entry.body) is None:
                return
            self._sent += 1
        if self._sent and self._resend_at is None:
            self._arm()
        if not self._beats_sent:
            self._pump_beats()

    def _pump_beats(self) -> None:
        """Send the oldest heartbeats that wait; the next ones once the broker has all of these."""
        self._beats_out = 0
        for body in self._beats.oldest(WINDOW):
            mid = self._publish("status", body)
            if mid is None:
                return
            self._beats_out += 1
            self._beats_sent.add(mid)

    def _beat_published(self, mid: int, *, arrived: bool) -> None:
        self._beats_sent.discard(mid)
        if not arrived:
            # Those behind it would come before it; all are sent again, the hub counts each once.
            self._beats_sent.clear()
        elif not self._beats_sent:
            self._beats.forget(self._beats_out)
            self._pump_beats()

    def _append(self, source: str, report: Pending, encode: Callable[[str, int], bytes]) -> bool:
        if self._spool.append(source, report.serial, report.channel, encode):
            return True
        if not self._spool.thin():
            return False
        self._sent = 0  # places have changed; the hub counts what comes twice once
        return self._spool.append(source, report.serial, report.channel, encode)

    def _arm(self) -> None:
        self._resend_at = self._steady() + self._wait

    def _publish(self, channel: str, body: bytes) -> int | None:
        row = BY_NAME[channel]
        mid = self._link.publish(self.topic(channel), body, qos=row.qos, retain=row.retain)
        if mid is not None and row.qos:
            self._mids.add(mid)
        return mid


def _encoder(report: Pending) -> Callable[[str, int], bytes]:
    from msgspec import structs

    message = codec.decode(report.body, DURABLE_TYPES[report.channel], limit=BY_NAME[report.channel].limit)
    return lambda spool, n: codec.encode(structs.replace(message, spool=spool, n=n))
