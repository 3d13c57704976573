"""The device's clocks, and how far each may be believed.

Intervals use the monotonic clock, so a step of the wall clock fires nothing early. Documents, windows and
tokens use the wall clock, which on a device without a battery starts in 1970.
"""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime, tzinfo
from typing import Final

from topics.trust import Clock, TrustState

PLAUSIBLE_MS: Final = 1_767_225_600_000
"""2026-01-01: no device of this system existed earlier, so a clock before it was never set."""
BEHIND_MS: Final = 86_400_000
_DATES: Final = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL."""


class SystemClock:
    """Reads the machine's clocks."""

    def wall(self) -> int:
        """The wall clock in ms since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def steady(self) -> float:
        """Seconds on a clock that never steps; only differences mean anything."""
        return time.monotonic()


def judge(trust: TrustState, wall: int) -> Clock:
    """Return the wall clock with whether it may be believed.

    It may not when it stands before `PLAUSIBLE_MS`, or more than a day behind the newest document trusted.
    """
    newest = max((mark.issued_at for mark in trust.marks.values()), default=0)
    return Clock(wall, wall >= PLAUSIBLE_MS and wall >= newest - BEHIND_MS)


def blamed(error: BaseException) -> str:
    """Return " (what to do about clocks)" when `error` says that a certificate is expired or not yet valid, else ""."""
    code = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else 0
    if code not in _DATES:
        return ""
    here = datetime.fromtimestamp(int(time.time()), UTC)
    return f" (the clock here says {here:%Y-%m-%d %H:%M} UTC; check it, and the clock of whoever made the certificate)"


def zones(name: str) -> tzinfo | None:
    """Return the time zone called `name`, or None for one that this device does not know."""
    # Loaded only when a manifest has a window: most devices never need it in memory.
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None
