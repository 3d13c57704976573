"""How long devices took for each step of an update, as counts of steps that grow by a tenth. Pure.

A rollout of a million devices is a few hundred counts, and a percentile is off by five percent at the most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from topics.messages import UpdateState

PHASES: Final[tuple[UpdateState, ...]] = ("downloading", "verified", "staged", "activating", "probation")
"""States of which a device reports how long it was in them, by its own clock."""
WAITING: Final = "waiting"
"""From the segment's being offered the release to the device's beginning, by the hub's clock."""
TOTAL: Final = "total"
"""From the device's beginning to its success, by the hub's clock."""
ALL: Final = (WAITING, *PHASES, TOTAL)
PERCENTILES: Final = (50, 90, 99)

_GROWTH: Final = 1.1
_MOST: Final = 300
"""The step of 10^12 ms and more."""


def step_of(ms: int) -> int:
    """Return the step that a time in ms falls into.

    >>> step_of(0), step_of(1), step_of(1000), step_of(1090)
    (0, 1, 73, 74)
    """
    return min(_MOST, 1 + math.floor(math.log(ms) / math.log(_GROWTH))) if ms >= 1 else 0


def middle_of(step: int) -> int:
    """Return the time in ms in the middle of a step.

    >>> middle_of(0), middle_of(73)
    (0, 1002)
    """
    return round(_GROWTH ** (step - 0.5)) if step else 0


def percentiles(counts: Mapping[int, int]) -> dict[str, int]:
    """Return `p50`, `p90` and `p99` (ms) of counts by step, and how many `devices` they are of; nearest rank.

    >>> percentiles({0: 1, 73: 9})
    {'devices': 10, 'p50': 1002, 'p90': 1002, 'p99': 1002}
    """
    devices = sum(counts.values())
    found = {"devices": devices}
    for percent in PERCENTILES:
        rank, passed = math.ceil(devices * percent / 100), 0
        for step in sorted(counts):
            passed += counts[step]
            if passed >= rank:
                found[f"p{percent}"] = middle_of(step)
                break
    return found


def forecast(*, expected: int, ended: int, started_at: int, now: int) -> int | None:
    """Return when (ms) the last of `expected` devices will have ended at the pace since `started_at` (ms).

    None while nobody has ended, which is no pace, and when nobody is left.

    >>> forecast(expected=100, ended=25, started_at=0, now=1000)
    4000
    """
    left = expected - ended
    if ended < 1 or left < 1:
        return None
    return now + math.ceil((now - started_at) * left / ended)
