"""The one door to every sink, for ingest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from hub.telemetry.sinks.queue import Line
from hub.telemetry.sinks.sink import Sink

STOP_S: Final = 5.0


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
        """Hand over a batch, oldest first: one lock for all of them."""
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
