"""HTTP by method, route and status."""

from __future__ import annotations

from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED: Final = "unmatched"
"""Route of a request that no route of ours answers: its path is the caller's, and would be a label without end."""
BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Requests:
    """Counts requests. Times end with the first byte of the answer: an event stream never ends."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._count = Counter(
            "flaghoist_http_requests_total",
            "Requests answered, by method, route and status.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "flaghoist_http_request_seconds",
            "Seconds from a request to the first byte of its answer.",
            ["method", "route"],
            buckets=BUCKETS,
            registry=registry,
        )

    def answered(self, scope: Any, status: int, seconds: float) -> None:
        """Count an answer that begins, to the request of the ASGI `scope`."""
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = scope.get("path_template") or UNMATCHED
        self._count.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)
