"""Devices whose memory went back, as when a disk is restored from an older copy: they count their starts from a number
that is not above the last one heard, so that all they say would be older than what is known.

A message that is only late tells of a time before the newest heartbeat. What tells of a time well after it, by a clock
that the device trusts, and of another start, was said by a device that began anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hub.caller import rule
from hub.events import Event, append
from hub.store import Tx
from topics.messages import Boot, Status

MARGIN_S: Final = 3_600
"""How far a heartbeat has to be past the newest one: what is later than this was not under way for so long."""
REASON: Final = (
    "its counters went back, as after a restore from an older copy of its disk or on a disk that took nothing; "
    "it is heard again"
)


def start_of(statuses: Iterable[Status], known: Boot, known_at: int) -> Boot | None:
    """Return the start of a device that began anew, None where none of `statuses` shows one. Pure.

    `known` and `known_at` (s) are of the newest heartbeat that counts.
    """
    for status in statuses:
        is_later = status.clock_ok and status.at > known_at + MARGIN_S
        if is_later and status.boot != known and status.boot[0] <= known[0]:
            return status.boot
    return None


def begin_anew(tx: Tx, device_id: str, key: int, statuses: Iterable[Status], now: int) -> Boot | None:
    """Return the start that a device's counters are taken from now, None where they go on. `now` in ms."""
    row = tx.one("SELECT boot, boot_id, at FROM device_latest WHERE device_key = :key", {"key": key})
    start = start_of(statuses, (row["boot"], row["boot_id"]), row["at"] // 1000) if row else None
    if start is None:
        return None
    tx.execute("DELETE FROM presence WHERE device_key = :key", {"key": key})
    tx.execute("UPDATE attempts SET attempt = 0 WHERE device_key = :key", {"key": key})
    append(tx, Event(kind="device.restored", device_id=device_id, reason=REASON), rule("restored"), now)
    return start
