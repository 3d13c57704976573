"""Which waiting reports may go when there is no room for all, or when nobody would act on them any more. Pure.

What became of an update, the answer to a command, and the begin and end of a stay in safe mode never go: the hub knows
of them by their report alone. The others say how something stands, and a later report says it better.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final, Protocol

from edge.machine.clock import PLAUSIBLE_MS
from topics import codec
from topics.channels import BY_NAME
from topics.errors import DecodeError
from topics.messages import DURABLE_TYPES, Drift, Durable, Recovery, UpdateResult

MAX_AGE: Final = 90 * 86_400
"""Seconds; what a device was like a quarter of a year ago helps nobody mend it."""
ENDS: Final = ("committed", "failed", "rolled_back")


class Waiting(Protocol):
    """A report that waits, in an outbox or in the spool."""

    @property
    def channel(self) -> str:
        """Name of its channel."""

    @property
    def body(self) -> bytes:
        """The encoded message."""


def superseded(reports: Sequence[Waiting]) -> set[int]:
    """Return the places of those that a later one of `reports` (oldest first) says better:

    1. the begin of an attempt whose end is among them (the hub counts the device in by the end too);
    2. all but the newest look for drift, and all but the newest diagnostics;
    3. all but the newest refusal of a document by the same check (whoever holds the broker chooses the topics).
    """
    said: set[Hashable] = set()
    gone = set()
    for place in range(len(reports) - 1, -1, -1):
        message = _read(reports[place])
        subject = _subject(message)
        if subject is None:
            if isinstance(message, UpdateResult) and message.state in ENDS:
                said.add(("begin", message.release, message.attempt))
        elif subject in said:
            gone.add(place)
        elif subject[0] != "begin":
            said.add(subject)
    return gone


def outdated(reports: Sequence[Waiting], now: int) -> set[int]:
    """Return the places of those that say how something stood more than `MAX_AGE` before `now` (s, of a clock that may
    be believed). One that was made by a clock that was never set has no age. The begin of an attempt stays as well:
    its end may be yet to come."""
    gone = set()
    for place, report in enumerate(reports):
        message = _read(report)
        subject = _subject(message)
        if message is None or subject is None or subject[0] == "begin":
            continue
        if PLAUSIBLE_MS // 1000 <= message.at < now - MAX_AGE:
            gone.add(place)
    return gone


def _subject(message: Durable | None) -> tuple[str, *tuple[Hashable, ...]] | None:
    """Return what a report that may be superseded is about; None for one that never goes."""
    match message:
        case UpdateResult(state="downloading"):
            return "begin", message.release, message.attempt
        case UpdateResult(state="refused", release=None):
            return "refused", message.check
        case Drift():
            return ("drift",)
        case Recovery(state="diagnostics"):
            return ("diagnostics",)
    return None


def _read(report: Waiting) -> Durable | None:
    kind = DURABLE_TYPES.get(report.channel)
    if kind is None:
        return None
    try:
        return codec.decode(report.body, kind, limit=BY_NAME[report.channel].limit)
    except DecodeError:
        return None
