"""Which heartbeats of a device have been counted. Pure; numbers in, a verdict out.

A device numbers its heartbeats 1, 2, 3 … after every start (`boot`). Ingest may meet one twice (it was killed
between the commit and the acknowledgement) or late (another slot was faster). So a device's row keeps the
highest number counted and the gaps below it, as runs `first, last, first, last …` in rising order:

1. A number above the highest is counted, and what it skipped becomes a gap.
2. A number inside a gap is counted, once, and leaves the gap.
3. Any other number has been counted.
4. A higher boot counter starts anew; what comes late from an older boot is not counted any more.
5. Of more than `GAPS` gaps the oldest are given up: what then still comes for them is not counted. Never twice
   is kept at the price of perhaps not at all; it takes 257 breaks in the numbers of one start to pay it.
"""

from __future__ import annotations

from typing import Final

GAPS: Final = 256
"""How many gaps a device's row keeps; two small integers each."""


def skip(gaps: list[int], top: int, seq: int) -> None:
    """Note in `gaps` what `seq`, which is above `top`, skipped.

    >>> gaps = []
    >>> skip(gaps, 4, 8); gaps
    [5, 7]
    """
    if seq > top + 1:
        gaps += (top + 1, seq - 1)
        if len(gaps) > 2 * GAPS:
            del gaps[: len(gaps) - 2 * GAPS]


def fill(gaps: list[int], seq: int) -> bool:
    """Take `seq` out of `gaps`; False when it was in none of them, so has been counted.

    >>> gaps = [1, 1, 5, 7]
    >>> fill(gaps, 6), gaps
    (True, [1, 1, 5, 5, 7, 7])
    >>> fill(gaps, 6), fill(gaps, 1), gaps
    (False, True, [5, 5, 7, 7])
    """
    # From the newest: what comes late is mostly just late.
    for i in range(len(gaps) - 2, -1, -2):
        first, last = gaps[i], gaps[i + 1]
        if seq > last:
            return False
        if seq >= first:
            gaps[i : i + 2] = ([first, seq - 1] if first < seq else []) + (
                [seq + 1, last] if seq < last else []
            )
            if len(gaps) > 2 * GAPS:
                del gaps[:2]
            return True
    return False
