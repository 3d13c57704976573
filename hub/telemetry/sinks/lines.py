"""The one door to every sink, for ingest."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from hub.telemetry.sinks.queue import Line
from hub.telemetry.sinks.sink import Sink

STOP_S: Final = 5.0


LOGS_A_BATCH: Final = 8
"""Log messages of one device in one batch that sinks are given, each of 128 lines at most. A device that logs in a loop
would push everybody else's lines out of the queue."""


def without_floods(lines: Sequence[Line]) -> list[Line]:
    """Return `lines` without log messages beyond `LOGS_A_BATCH` of a device; the first ones stay."""
    seen: Counter[str] = Counter()
    kept: list[Line] = []
    for line in lines:
        if line[0] == "log":
            seen[line[1]] += 1
            if seen[line[1]] > LOGS_A_BATCH:
                continue
        kept.append(line)
    return kept


class Lines:
    """Gives each report to every sink. Never blocks, from any thread; without sinks it does nothing."""

    def __init__(self, sinks: Sequence[Sink] = ()) -> None:
        self.sinks = tuple(sinks)

    def offer(
        self, kind: str, device_id: str, body: bytes, content_type: str | None, received_at: int
    ) -> None:
        """Hand over one report; `received_at` is in ms."""
        self.extend([(kind, device_id, body, content_type, received_at)])

    def extend(self, lines: Sequence[Line]) -> None:
        """Hand over a batch, oldest first: one lock for all of them. What a device logs in a loop is left out."""
        if len(lines) > LOGS_A_BATCH and any(line[0] == "log" for line in lines):
            kept = without_floods(lines)
            self.skip(len(lines) - len(kept))
            lines = kept
        for sink in self.sinks:
            sink.queue.put(lines)

    def skip(self, lines: int) -> None:
        """Count `lines` that are not handed over, since they are more than could be written."""
        for sink in self.sinks:
            sink.queue.skip(lines)

    def start(self) -> None:
        """Start every sink."""
        for sink in self.sinks:
            sink.start()

    def stop(self) -> None:
        """Let every sink write what it holds and end; returns within `STOP_S` seconds whatever they do."""
        for sink in self.sinks:
            sink.end()
        deadline = time.monotonic() + STOP_S
        for sink in self.sinks:
            sink.join(max(0.0, deadline - time.monotonic()))
