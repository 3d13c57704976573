"""Metrics of the parts that run in this process. Each function returns what `Metrics.add` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from hub.metrics.registry import Collect

Labelled = Mapping[tuple[str, ...], float]


class Slot(Protocol):
    """What is read of one slot of ingest."""

    taken: int
    connections: int
    problem: str

    @property
    def observed_since(self) -> int:
        """Since when (ms) it has been caught up; now, while it is not."""


class Broker(Protocol):
    """What is read of the broker."""

    restarts: int
    overflows: int
    problem: str

    @property
    def pid(self) -> int | None:
        """Its process, None while there is none."""


class Hoister(Protocol):
    """What is read of the hoister."""

    published: int
    problem: str


class Leader(Protocol):
    """What is read of the leader."""

    problem: str


class Streams(Protocol):
    """What is read of the event streams."""

    open: int


class Intake(Protocol):
    """What is read of the intake over HTTP."""

    taken: int
    refused: int


class Thinning(Protocol):
    """What is read of retention; `rows` by step, `ended_at` in ms, 0 for not yet."""

    rows: dict[str, int]
    ended_at: int


class Sink(Protocol):
    """What is read of a sink; `dropped` is by reason."""

    NAME: ClassVar[str]
    sent: int
    failures: int
    problem: str

    @property
    def dropped(self) -> dict[str, int]:
        """Lines lost, by reason."""

    @property
    def queued(self) -> int:
        """Lines waiting."""


def counter(name: str, help_text: str, value: float) -> Metric:
    """Return a counter without labels."""
    return CounterMetricFamily(name, help_text, value=value)


def gauge(name: str, help_text: str, value: float) -> Metric:
    """Return a gauge without labels."""
    return GaugeMetricFamily(name, help_text, value=value)


def counters(name: str, help_text: str, labels: Sequence[str], values: Labelled) -> Metric:
    """Return a counter with `labels`, one series for each of `values`."""
    family = CounterMetricFamily(name, help_text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def gauges(name: str, help_text: str, labels: Sequence[str], values: Labelled) -> Metric:
    """Return a gauge with `labels`, one series for each of `values`."""
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def build(version: str, fleet: str) -> Collect:
    """Which hub this is."""
    return lambda: [
        gauges(
            "flaghoist_build_info",
            "1; the version that runs, and whose fleet it is.",
            ["version", "fleet"],
            {(version, fleet): 1.0},
        )
    ]


def ingest(slots: Mapping[str, Slot], now: Callable[[], int]) -> Collect:
    """Intake, by slot; `now` gives ms."""

    def by_slot(read: Callable[[Slot], float]) -> Labelled:
        return {(name,): read(slot) for name, slot in slots.items()}

    def collect() -> list[Metric]:
        at = now()
        return [
            counters(
                "flaghoist_ingest_messages_total",
                "Messages committed and acknowledged since the start, those put in quarantine included.",
                ["slot"],
                by_slot(lambda slot: slot.taken),
            ),
            counters(
                "flaghoist_ingest_connections_total",
                "Connections to the broker with every subscription granted, since the start.",
                ["slot"],
                by_slot(lambda slot: slot.connections),
            ),
            gauges(
                "flaghoist_ingest_problem",
                "1 while reports are not taken in.",
                ["slot"],
                by_slot(lambda slot: bool(slot.problem)),
            ),
            gauges(
                "flaghoist_ingest_observed_seconds",
                "For how long devices have been heard without a break; 0 while ingest is behind or away.",
                ["slot"],
                by_slot(lambda slot: max(0, at - slot.observed_since) / 1000),
            ),
        ]

    return collect


def broker(mosquitto: Broker) -> Collect:
    """Mosquitto."""
    return lambda: [
        gauge(
            "flaghoist_broker_up",
            "1 while Mosquitto runs and is well.",
            bool(mosquitto.pid and not mosquitto.problem),
        ),
        counter(
            "flaghoist_broker_restarts_total",
            "How often Mosquitto ended and was started again.",
            mosquitto.restarts,
        ),
        counter(
            "flaghoist_broker_queue_overflows_total",
            "How often the queue of a session in the broker was full, after which messages were dropped.",
            mosquitto.overflows,
        ),
    ]


def hoister(part: Hoister) -> Collect:
    """The hoister."""
    return lambda: [
        counter(
            "flaghoist_hoister_publishes_total",
            "Publishes of retained messages that the broker delivered back.",
            part.published,
        ),
        gauge(
            "flaghoist_hoister_problem",
            "1 while the broker does not hold what the database says it should.",
            bool(part.problem),
        ),
    ]


def leader(part: Leader) -> Collect:
    """The leader."""
    return lambda: [
        gauge(
            "flaghoist_leader_problem",
            "1 while rollouts are not judged and events not numbered.",
            bool(part.problem),
        )
    ]


def streams(part: Streams) -> Collect:
    """Event streams."""
    return lambda: [
        gauge("flaghoist_event_streams_open", "Server-sent event streams that are open.", part.open)
    ]


def intake(part: Intake) -> Collect:
    """Reports over HTTP."""
    return lambda: [
        counters(
            "flaghoist_http_reports_total",
            "Reports that devices posted, by what became of them.",
            ["outcome"],
            {("stored",): part.taken, ("quarantined",): part.refused},
        )
    ]


def thinning(part: Thinning) -> Collect:
    """Retention."""
    return lambda: [
        counters(
            "flaghoist_thinned_rows_total",
            "Rows that were deleted or folded for their age.",
            ["what"],
            {(name,): rows for name, rows in part.rows.items()},
        ),
        gauge(
            "flaghoist_thinning_end_timestamp_seconds",
            "When all that was due had last been thinned; 0 for not yet.",
            part.ended_at / 1000,
        ),
    ]


def sinks(parts: Sequence[Sink]) -> Collect:
    """Sinks of raw lines."""

    def by_sink(read: Callable[[Sink], float]) -> Labelled:
        return {(sink.NAME,): read(sink) for sink in parts}

    return lambda: [
        gauges(
            "flaghoist_sink_queued_lines",
            "Reports that wait for the sink.",
            ["sink"],
            by_sink(lambda sink: sink.queued),
        ),
        counters(
            "flaghoist_sink_sent_lines_total", "Lines written.", ["sink"], by_sink(lambda sink: sink.sent)
        ),
        counters(
            "flaghoist_sink_dropped_lines_total",
            "Lines that were lost, by reason.",
            ["sink", "reason"],
            {(sink.NAME, reason): count for sink in parts for reason, count in sink.dropped.items()},
        ),
        counters(
            "flaghoist_sink_failures_total",
            "Attempts to write that failed, those that were tried again with success included.",
            ["sink"],
            by_sink(lambda sink: sink.failures),
        ),
        gauges(
            "flaghoist_sink_problem",
            "1 while the sink cannot write.",
            ["sink"],
            by_sink(lambda sink: bool(sink.problem)),
        ),
    ]
