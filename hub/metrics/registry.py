"""All metrics of one hub."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

import prometheus_client
import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from hub.metrics.requests import Requests

Collect = Callable[[], Iterable[Metric]]
CONTENT_TYPE = "text/plain; version=0.0.4"  # the framework adds the charset

_log = structlog.get_logger("hub.metrics")


class Metrics:
    """The process, HTTP, and every part that was added. One registry for each, none for the process as a whole."""

    def __init__(self) -> None:
        # The library has no switch for one metric. A `_created` series beside each would double what is kept.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._parts: dict[str, Collect] = {}
        self._scraping = threading.Lock()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self.requests = Requests(self._registry)
        self._registry.register(self)

    def add(self, part: str, collect: Collect) -> None:
        """Ask `collect` for the metrics of `part` at each scrape; it is called in a worker thread."""
        self._parts[part] = collect

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of every part that can be read, and which cannot."""
        broken = GaugeMetricFamily(
            "flaghoist_metrics_problem",
            "1 when the metrics of this part could not be read in this scrape; they are missing from it then.",
            labels=["part"],
        )
        for part, collect in self._parts.items():
            try:
                found = list(collect())
            except Exception:
                # Whatever is wrong with one part, the others' numbers are what is needed to find it.
                _log.exception("metrics could not be read", part=part)
                broken.add_metric([part], 1.0)
                continue
            broken.add_metric([part], 0.0)
            yield from found
        yield broken

    def text(self) -> bytes:
        """Return everything in Prometheus' text format. Blocks on the database; one scrape at a time."""
        with self._scraping:
            return prometheus_client.generate_latest(self._registry)
