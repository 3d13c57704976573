"""From ingest to the sinks: raw lines of what has been committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hub.broker.arrivals import Uplink
from hub.telemetry.sinks import Lines
from hub.times import now_ms

MOST: Final = 4_000
"""Lines of one batch that sinks are given. A batch is this large only when a backlog is drained, four times a second
and far faster than a sink may write: making and writing more lines would slow that down."""


def hand_on(lines: Lines, arrivals: Sequence[Uplink]) -> None:
    """Give `arrivals` to the sinks: of more than `MOST` the newest, the others are counted as lost to overflow."""
    if not lines.sinks:
        return
    if len(arrivals) > MOST:
        lines.skip(len(arrivals) - MOST)
        arrivals = arrivals[-MOST:]
    now = now_ms()
    parts_of = ((arrival, arrival.topic.split("/")) for arrival in arrivals)
    lines.extend(
        [
            (levels[-1], levels[-3], a.payload, a.content_type, now)
            for a, levels in parts_of
            if len(levels) > 4
        ]
    )
