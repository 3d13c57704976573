"""Of a backlog the sinks are given what they can write, and the rest is counted."""

from __future__ import annotations

from hub.broker.arrivals import Uplink
from hub.broker.handon import MOST, hand_on
from hub.telemetry.sinks import Lines, Sink
from hub.telemetry.sinks.queue import Queue
from hub.telemetry.sinks.render import Rendered
from tests.support.uplinks import topic


class Idle(Sink):
    """A sink that is never started."""

    NAME = "idle"

    def write(self, lines: list[Rendered]) -> None:
        """Never called."""

    def close(self) -> None:
        """Nothing to close."""


def test_a_usual_batch_is_handed_on_whole() -> None:
    sink = Idle()
    hand_on(Lines([sink]), [Uplink(topic("shop-1", kind), b"{}") for kind in ("status", "presence")])
    assert [line[:3] for line in sink.queue.take(10, 1_000)] == [
        ("status", "shop-1", b"{}"),
        ("presence", "shop-1", b"{}"),
    ]
    assert sink.dropped["overflow"] == 0


def test_of_a_backlog_the_newest_are_handed_on_and_the_others_counted() -> None:
    sink = Idle(Queue())
    hand_on(Lines([sink]), [Uplink(topic("shop-1", "status"), b"%d" % n) for n in range(MOST + 10)])
    bodies = [int(line[2]) for line in sink.queue.take(MOST + 10, 1_000_000)]
    assert bodies == list(range(10, MOST + 10))
    assert sink.dropped["overflow"] == 10


def test_what_is_on_no_topic_of_a_device_is_not_handed_on() -> None:
    sink = Idle()
    hand_on(Lines([sink]), [Uplink("a/b", b"{}")])
    assert sink.queued == 0
