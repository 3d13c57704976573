"""HTTP of metrics."""

from __future__ import annotations

from litestar import Controller, Response, get
from litestar.di import NamedDependency

from hub.metrics.registry import CONTENT_TYPE, Metrics


class MetricsController(Controller):
    """`/metrics`."""

    path = "/"
    tags = ["shared"]  # noqa: RUF012  (litestar reads it from the class)

    @get("/metrics", opt={"access": "viewer"}, sync_to_thread=True)
    def metrics(self, metrics: NamedDependency[Metrics]) -> Response[bytes]:
        """Every metric, in Prometheus' text format. Prometheus sends its token from `credentials_file`."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)
