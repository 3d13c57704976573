"""Reports on their way into the spool, inside the records `state` and `memory`. Pure.

They leave it with the next look at the spool, unless that has no room or the disk refuses. Both records are written
whole at each change, so what waits in them is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from edge.storage import worth
from edge.storage.worth import Waiting

MAX_BYTES: Final = 256 * 1024
"""Of bodies in one outbox. From there on what a later report says better goes, and the agent begins nothing that
would need to be reported."""
T = TypeVar("T", bound=Waiting)


def added(reports: Sequence[T], new: T) -> list[T]:
    """Return `reports` with `new` behind them, without what is superseded when all of it is too much."""
    every = [*reports, new]
    if size(every) <= MAX_BYTES:
        return every
    gone = worth.superseded(every)
    return [report for place, report in enumerate(every) if place not in gone]


def is_full(reports: Sequence[Waiting]) -> bool:
    """Whether nothing may begin whose end would have to be reported."""
    return size(reports) > MAX_BYTES


def size(reports: Sequence[Waiting]) -> int:
    """Return the bytes of their bodies."""
    return sum(len(report.body) for report in reports)
