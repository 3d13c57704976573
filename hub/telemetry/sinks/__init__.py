"""Where raw reports go, line by line, beside the database: NDJSON files and Loki.

    ingest ──offer──► Lines ──► one bounded queue and one thread per sink ──► files, Loki

Sinks are for looking back, not for decisions: what the hub must not lose is in the store before it gets here. So
nothing here ever makes ingest wait. A sink that cannot keep up loses its oldest lines, and counts them.
"""

from hub.telemetry.sinks.lines import Lines
from hub.telemetry.sinks.loki import Loki
from hub.telemetry.sinks.ndjson import Ndjson
from hub.telemetry.sinks.queue import Line
from hub.telemetry.sinks.sink import Sink

__all__ = ["Line", "Lines", "Loki", "Ndjson", "Sink"]
