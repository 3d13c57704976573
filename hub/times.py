"""Times: milliseconds inside, RFC 3339 UTC outside."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec


class Clock(msgspec.Struct, frozen=True):
    """Where the time comes from, for whoever is handed one."""

    now: Callable[[], int]


def now_ms() -> int:
    """The wall clock in ms; what the running hub puts into its `Clock`."""
    return time.time_ns() // 1_000_000


def zones(name: str) -> tzinfo | None:
    """Return a time zone by IANA name, None for one that this machine does not know."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def rfc3339(ms: int | None) -> str | None:
    """Return a time as RFC 3339 with milliseconds and `Z`; None stays None.

    >>> rfc3339(0)
    '1970-01-01T00:00:00.000Z'
    """
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> int:
    """Return a time as ms since the Unix epoch; raises `ValueError` for what is none, or says no zone.

    >>> parse_rfc3339("1970-01-01T00:00:01.5Z"), parse_rfc3339("1970-01-01T01:00:00+01:00")
    (1500, 0)
    """
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text!r} says no zone")
    return round(found.timestamp() * 1000)
