"""What Prometheus scrapes at `GET /metrics`. Every metric is in docs/reference/metrics.md.

Numbers are read from the living parts and from the database when somebody asks, and kept nowhere else.
"""

from hub.metrics.registry import Metrics
from hub.metrics.requests import Requests
from hub.metrics.routes import MetricsController

__all__ = ["Metrics", "MetricsController", "Requests"]
