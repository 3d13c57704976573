"""What a batch of uplink messages amounts to. Pure: messages in, rows and refusals out.

Rules, each a row of the tests:

1. The topic names the device and the kind; a body that names another device is refused.
2. Heartbeats are added up by device; which of them count, and which is the newest, the device's row decides.
3. Of presences, the highest (boot counter, session) stays; within one session the later message. A last will
   of an older connection therefore never marks a newer one offline.
4. Durable reports are keyed by (device, spool, n); a repeated one is the same report.
5. Whatever cannot be read goes to quarantine with a reason. If its spool and n can still be read, it counts as
   taken in, so that the device need not send it for ever.
6. An empty presence is a retained message being cleared, and says nothing.
7. Log lines are read, so that the sinks get none that are none; nothing is kept of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from hub.broker import heartbeats
from hub.broker.arrivals import Garbled, Uplink
from hub.broker.beats import Beats
from hub.broker.heartbeats import Checked
from topics import channels, codec
from topics.channels import SITE_UPLINKS, UPLINK_LIMIT, UPLINKS
from topics.errors import DecodeError, SenderError, TopicError
from topics.fields import SpoolId
from topics.messages import DURABLE_TYPES, Durable, Log, Presence, Status, UpdateResult, UpdateState

__all__ = [
    "RANKS",
    "REASONS",
    "Batch",
    "Refusal",
    "Report",
    "Topics",
    "Uplink",
    "contiguous",
    "heartbeats_of",
    "parts",
    "reduce",
]

_T = TypeVar("_T")

PART: Final = 500
"""Messages whose bodies and readings fit into a processor's second-level cache."""
FIRST_BYTES: Final = 512
"""How much of a refused body is kept."""

UNREADABLE: Final = "unreadable"
"""Reason for a packet whose text is not even UTF-8."""
REASONS: Final = (*codec.REASONS, UNREADABLE, "topic", "wrong_device", "unknown_device", "revoked", "store")
"""Every reason for quarantine; the last three are found out by `hub.broker.commit`."""

RANKS: Final[dict[UpdateState, int]] = {
    "refused": 0,
    "idle": 0,
    "downloading": 1,
    "verified": 2,
    "staged": 3,
    "activating": 4,
    "probation": 5,
    "rolling_back": 6,
    "committed": 7,
    "failed": 8,
    "rolled_back": 8,
}
"""Order of states within one attempt: a lower one never replaces a higher one. A fall-back after a success is
news, a success after a failure of the same attempt is a late message."""


class Report(NamedTuple):
    """One durable report. `sent` counts how often the device sent it in this batch, broker redeliveries aside.

    `message` is None for one that is in quarantine and only holds its number.
    """

    kind: str
    arrival: Uplink
    message: Durable | None
    sent: int


class Refusal(NamedTuple):
    """A message for quarantine. `key` is (spool, n) when the body was a durable report that tells them."""

    arrival: Uplink
    reason: str
    detail: str
    device_id: str | None = None
    kind: str = ""
    key: tuple[str, int] | None = None


Topics = dict[str, Checked]
"""Topics seen before; at most `TOPICS_LIMIT`."""

TOPICS_LIMIT: Final = 250_000
"""About 300 bytes each."""


@dataclass(slots=True)
class Batch:
    """The sum of some messages, by device id. `topics` remembers topics from batch to batch, to be fast."""

    arrivals: list[Uplink]
    topics: Topics
    beats: dict[str, Beats] = field(default_factory=dict)
    presences: dict[str, tuple[Presence, Uplink]] = field(default_factory=dict)
    reports: dict[tuple[str, str, int], Report] = field(default_factory=dict)
    logs: list[tuple[str, Uplink]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def devices(self) -> set[str]:
        """Ids of every device that something is kept of."""
        ids = {*self.beats, *self.presences}
        ids.update(device_id for device_id, _, _ in self.reports)
        ids.update(refusal.device_id for refusal in self.refusals if refusal.device_id and refusal.key)
        return ids


class _WrongDeviceError(SenderError):
    reason = "wrong_device"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class _Key(msgspec.Struct, frozen=True):
    """All that is wanted of a durable report that cannot be read otherwise."""

    spool: SpoolId
    n: Annotated[int, Meta(ge=1, le=2**53)]


def parts(arrivals: list[Uplink], devices: int) -> Iterable[list[Uplink]]:
    """Return `arrivals` in parts that are quick to take in one after the other, in one transaction.

    `devices` is how many the batch before was of. Heartbeats of the same devices are
    added up before they are written, so all at once is best. Where nearly every one is of another device nothing is
    gained by that, and what is at hand had better fit into the processor's cache: small parts take a fifth less time.
    """
    if 2 * devices < len(arrivals):
        return [arrivals]
    return (arrivals[i : i + PART] for i in range(0, len(arrivals), PART))


def reduce(arrivals: Iterable[Uplink], topics: Topics | None = None, now_s: int = 0) -> Batch:
    """Return what `arrivals`, in order, amount to. `now_s` is when they came."""
    batch = Batch([*arrivals], {} if topics is None else topics)
    known, heard, read = batch.topics, batch.beats, heartbeats.read
    for arrival in batch.arrivals:
        topic = known.get(arrival.topic)
        if topic is None or type(arrival) is Garbled:
            topic = _learn(batch, arrival)
            if topic is None:
                continue
        try:
            if topic.kind == "status":
                status = read(arrival.payload, arrival.content_type, topic)
                device_id = topic.device_id
                if status.device_id is not None:
                    _check_device(status.device_id, device_id)
                before = heard.get(device_id)
                if before is None:
                    heard[device_id] = Beats(status.seq, status, arrival, now_s)
                else:
                    before.add(status, arrival, now_s)
            else:
                _add(batch, arrival, topic.device_id, topic.kind)
        except (DecodeError, _WrongDeviceError) as error:
            _refuse(batch, Refusal(arrival, error.reason, error.detail, topic.device_id, topic.kind))
    return batch


def heartbeats_of(batch: Batch, device_ids: Collection[str]) -> dict[str, list[tuple[Status, Uplink]]]:
    """Return every heartbeat of some devices, in order of arrival: what their sums were made of."""
    found: dict[str, list[tuple[Status, Uplink]]] = {device_id: [] for device_id in device_ids}
    for arrival in batch.arrivals:
        if type(arrival) is Garbled:
            continue
        try:
            topic = batch.topics.get(arrival.topic) or Checked(*_address(arrival.topic))
            if topic.kind == "status" and topic.device_id in found:
                status = heartbeats.read(arrival.payload, arrival.content_type, topic)
                _check_device(status.device_id, topic.device_id)
                found[topic.device_id].append((status, arrival))
        except (TopicError, DecodeError, _WrongDeviceError):
            continue
    return found


def _learn(batch: Batch, arrival: Uplink) -> Checked | None:
    if isinstance(arrival, Garbled):
        batch.refusals.append(Refusal(arrival, UNREADABLE, "the packet's text is not UTF-8"))
        return None
    try:
        device_id, kind = _address(arrival.topic)
    except TopicError as error:
        batch.refusals.append(Refusal(arrival, "topic", str(error)))
        return None
    if len(batch.topics) >= TOPICS_LIMIT:
        batch.topics.clear()
    topic = batch.topics[arrival.topic] = Checked(device_id, kind)
    return topic


def _add(batch: Batch, arrival: Uplink, device_id: str, kind: str) -> None:
    if kind == "presence":
        if not arrival.payload:
            return
        presence = _decode(arrival, Presence)
        present = batch.presences.get(device_id)
        if present is None or _presence_order(presence) >= _presence_order(present[0]):
            batch.presences[device_id] = (presence, arrival)
    elif kind == "log":
        _check_device(_decode(arrival, Log).device_id, device_id)
        batch.logs.append((device_id, arrival))
    else:
        report = _decode(arrival, DURABLE_TYPES[kind])
        _check_device(report.device_id, device_id)
        key = (device_id, report.spool, report.n)
        first = batch.reports.get(key) or Report(kind, arrival, report, 0)
        batch.reports[key] = first._replace(sent=first.sent + (not arrival.duplicate))


def _decode(arrival: Uplink, kind: type[_T]) -> _T:
    return codec.decode(arrival.payload, kind, limit=UPLINK_LIMIT, content_type=arrival.content_type)


def _check_device(named: str | None, device_id: str) -> None:
    if named is not None and named != device_id:
        raise _WrongDeviceError(f"the body names {named}, the topic {device_id}")


def _refuse(batch: Batch, refusal: Refusal) -> None:
    key = None
    if refusal.kind in DURABLE_TYPES:
        try:
            found = _decode(refusal.arrival, _Key)
            key = (found.spool, found.n)
        except DecodeError:
            key = None
    batch.refusals.append(refusal._replace(key=key))


def _presence_order(presence: Presence) -> tuple[int, int]:
    return presence.boot[0], presence.session


def contiguous(known: int, stored: Collection[int], sent: Mapping[int, int]) -> int:
    """Return the highest n up to which every report of a spool is taken in: what the receipt says.

    `known` is the last answer (0 for a spool never heard of), `stored` the numbers above it in the store, and
    `sent` those of this batch with how often the device sent each. A gap is not receipted past, since the
    missing reports may have been lost on the way; the device sends all it still holds again, lowest first.
    So when the lowest number above a gap comes a second time and nothing below comes with it, the device
    holds nothing below it: it had a receipt for that, which a restored hub does not remember. (A broker whose
    queue overflowed twice in just that place would deceive us; its queue is sized for that not to happen.)
    """
    have = {*stored, *sent}
    start = known
    while True:
        while known + 1 in have:
            known += 1
        lowest = min((n for n in have if n > known), default=None)
        if lowest is None or not sent.get(lowest) or sent[lowest] + (lowest in stored) < 2:
            return known
        if known > start or min(sent) <= start:
            return known
        known = lowest


def release_of(result: UpdateResult) -> str | None:
    """Return the release that a result is about, None when the device could not tell."""
    return result.release or result.to_release


def _address(topic: str) -> tuple[str, str]:
    """Return the device and the kind that a topic names. Raises `TopicError`."""
    levels = topic.split("/")
    channel = _BY_SHAPE.get((len(levels), levels[-1]))
    if channel is None:
        channels.parse(topic)
        raise TopicError(f"{topic!r} is not a topic that devices report on")
    parts = dict(zip(channel.template.split("/"), levels, strict=True))
    site = {"site": parts["{site}"]} if "{site}" in parts else {}
    if channel.topic(parts["{fleet}"], id=parts["{id}"], **site) != topic:
        channels.parse(topic)
    return parts["{id}"], channel.name.removeprefix("site-")


_BY_SHAPE: Final = {
    (channel.template.count("/") + 1, channel.template.rpartition("/")[2]): channel
    for channel in (*UPLINKS, *SITE_UPLINKS)
    if channel.name.removeprefix("site-") in {"status", "presence", "log", *DURABLE_TYPES}
}
"""Channels that devices report on, by number of levels and the last one: a look instead of a search."""
