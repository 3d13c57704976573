"""Devices whose identity was copied, as with the image of a memory card: two agents report under one id.

They throw each other off the broker without end, and each looks well whenever it is seen. Both count their starts from
the same number, so heartbeats of one start number come with different random parts, now of the one, now of the other.

One agent may give a number twice as well: its memory fell back to the generation before, or its disk takes nothing, so
that a start was not written down. Then the first random part is never heard again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from hub.caller import rule
from hub.events import Event, append
from hub.store import Tx
from topics.messages import Boot

QUIET_MS: Final = 3_600_000
"""Time in which a device is told of once."""
REASON: Final = (
    "two agents report under this id: its identity was copied; enrol one of them anew, as a device of its own"
)


class Odd(NamedTuple):
    """Two random parts under one start number `boot`: `other` was heard after `first`, which stood at `seq` then."""

    boot: int
    first: str
    other: str
    seq: int


def judge(boots: Sequence[Boot], known: tuple[Boot, int] | None, odd: Odd | None) -> tuple[bool, Odd | None]:
    """Return whether heartbeats of the starts `boots`, in order, are of two agents, and what to remember. Pure.

    `known` is the start and seq of the latest heartbeat before them. Rules: only the newest start number says
    something, since what is late may be of any; one random part after another is a new start; the first one after the
    other is a second agent, whether it comes now or `known` shows that it came in between.

    >>> one, other = (6, "0000000a"), (6, "0000000b")
    >>> judge([other], (one, 4), None)
    (False, Odd(boot=6, first='0000000a', other='0000000b', seq=4))
    >>> judge([other], (one, 4), _[1])[0], judge([other], (one, 5), _[1])[0], judge([one], (other, 5), _[1])[0]
    (False, True, True)
    """
    newest = max([counter for counter, _ in boots] + ([known[0][0]] if known else []), default=0)
    heard = [chance for counter, chance in boots if counter == newest]
    if odd is not None and odd.boot != newest:
        odd = None
    last, seq = "", 0
    if known is not None and known[0][0] == newest:
        last, seq = known[0][1], known[1]
        if odd is not None and last == odd.first and seq > odd.seq:
            return True, odd
        if odd is not None and last == odd.first:
            last = odd.other
    for chance in heard:
        if odd is not None and chance == odd.first and last == odd.other:
            return True, odd
        if last and chance != last:
            odd = Odd(newest, last, chance, seq)
        last = chance
    return False, odd


def tell(tx: Tx, device_id: str, key: int, boots: Sequence[Boot], now: int) -> bool:
    """Write an event if heartbeats that are about to be taken in are of two agents; return whether. `now` in ms.

    For heartbeats that came twice, late or out of order: those of two agents do.
    """
    row = tx.one("SELECT boot, boot_id, seq FROM device_latest WHERE device_key = :key", {"key": key})
    known = ((row["boot"], row["boot_id"]), row["seq"]) if row else None
    remembered = tx.one(
        "SELECT boot, first, other, seq FROM odd_starts WHERE device_key = :key", {"key": key}
    )
    before = (
        Odd(remembered["boot"], remembered["first"], remembered["other"], remembered["seq"])
        if remembered
        else None
    )
    are_two, odd = judge(boots, known, before)
    if odd is not None and odd != before:
        tx.execute(
            "INSERT INTO odd_starts (device_key, boot, first, other, seq) VALUES (:key, :boot, :first, :other, :seq) "
            "ON CONFLICT (device_key) DO UPDATE SET boot = excluded.boot, first = excluded.first, "
            "other = excluded.other, seq = excluded.seq",
            {"key": key, **odd._asdict()},
        )
    if not are_two:
        return False
    told = tx.one(
        "SELECT 1 AS told FROM events WHERE device_id = :id AND kind = 'device.copied' AND at > :since LIMIT 1",
        {"id": device_id, "since": now - QUIET_MS},
    )
    if told is None:
        append(tx, Event(kind="device.copied", device_id=device_id, reason=REASON), rule("copies"), now)
    return True
