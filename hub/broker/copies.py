"""Devices whose identity was copied, as with the image of a memory card: two agents report under one id.

They throw each other off the broker without end, and each looks well whenever it is seen. Both count their starts from
the same number, so heartbeats of one start number come with different random parts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hub.caller import rule
from hub.events import Event, append
from hub.store import Tx
from topics.messages import Boot

QUIET_MS: Final = 3_600_000
"""Time in which a device is told of once."""
REASON: Final = (
    "two agents report under this id: its identity was copied; enrol one of them anew, as a device of its own"
)


def are_two(boots: Iterable[Boot], known: Boot | None) -> bool:
    """Whether heartbeats of the starts `boots`, the latest before them being of `known`, are of two agents. Pure.

    Only the newest start says something: what is late may be of any.

    >>> are_two([(6, "0000000a"), (6, "0000000b")], None), are_two([(6, "0000000b")], (6, "0000000a"))
    (True, True)
    >>> are_two([(5, "0000000a"), (6, "0000000b")], (6, "0000000b"))
    False
    """
    all_ = [*boots, known] if known else list(boots)
    newest = max((counter for counter, _ in all_), default=0)
    return len({chance for counter, chance in all_ if counter == newest}) > 1


def tell(tx: Tx, device_id: str, key: int, boots: Iterable[Boot], now: int) -> None:
    """Write an event if heartbeats that are about to be taken in are of two agents. `now` in ms.

    For heartbeats that came twice, late or out of order: those of two agents do.
    """
    row = tx.one("SELECT boot, boot_id FROM device_latest WHERE device_key = :key", {"key": key})
    if not are_two(boots, (row["boot"], row["boot_id"]) if row else None):
        return
    told = tx.one(
        "SELECT 1 AS told FROM events WHERE device_id = :id AND kind = 'device.copied' AND at > :since LIMIT 1",
        {"id": device_id, "since": now - QUIET_MS},
    )
    if told is None:
        append(tx, Event(kind="device.copied", device_id=device_id, reason=REASON), rule("copies"), now)
