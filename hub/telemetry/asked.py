"""What a list of telemetry was asked for, checked: a limit or time that cannot be meant is an error, never clamped."""

from __future__ import annotations

from typing import Final

import msgspec

from hub.errors import Invalid, NotFound
from hub.store import Row, Tx
from hub.times import parse_rfc3339

MAX_LIMIT: Final = 500
FOREVER: Final = 2**53
"""Later than every time (ms)."""


class Span(msgspec.Struct, frozen=True):
    """From `begin` (included) to `end` (not included), in ms."""

    begin: int
    end: int


def span(begin: str | None, end: str | None) -> Span:
    """Return the times between which something is asked for; without them, all. Raises `Invalid`."""
    found = Span(_time("from", begin, 0), _time("to", end, FOREVER))
    if found.begin > found.end:
        raise Invalid("from must not be later than to.", rule="to")
    return found


def check_limit(limit: int) -> None:
    """Raise `Invalid` for a limit out of range."""
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit must be 1 to {MAX_LIMIT}.", rule="limit")


def device(tx: Tx, device_id: str) -> Row:
    """Return a device's row; raises `NotFound`."""
    row = tx.one("SELECT * FROM devices WHERE device_id = :id", {"id": device_id})
    if row is None:
        raise NotFound(f"There is no device {device_id}.")
    return row


def _time(name: str, text: str | None, default: int) -> int:
    if text is None:
        return default
    try:
        return parse_rfc3339(text)
    except ValueError:
        raise Invalid(
            f"{name} must be a time like 2026-11-25T09:30:00Z; write + as %2B in an address.", rule=name
        ) from None
