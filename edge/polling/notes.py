"""What is known of the ways to the hub, kept over restarts; and in words, for people."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from edge.config import Paths
from edge.polling.choice import Standing, Transport, choose


def place(paths: Paths) -> Path:
    """Where it is kept."""
    return paths.run / "way.json"


def read(paths: Paths) -> Standing:
    """Return what was kept; a file that is missing or torn by a power cut costs no more than trying anew."""
    try:
        return msgspec.json.decode(place(paths).read_bytes(), type=Standing)
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
        return Standing()


def write(paths: Paths, standing: Standing) -> None:
    """Keep `standing`. A disk that refuses is passed over, and nothing is forced to disk."""
    beside = place(paths).with_suffix(".new")
    with contextlib.suppress(OSError):
        beside.write_bytes(msgspec.json.encode(standing))
        beside.replace(place(paths))


def sentence(standing: Standing, transport: Transport, now: float) -> str:
    """Return which way is used and why.

    >>> sentence(Standing(), "auto", 0.0)
    'MQTT'
    >>> sentence(Standing("https", 5, 100.0, "timed out", 1, 960.0), "auto", 500.0)
    'HTTPS, since MQTT failed 5 times since 1970-01-01 00:01 UTC (timed out); MQTT is tried again at 00:16 UTC'
    """
    if transport != "auto":
        return f"{transport.upper()}, as the setting transport says"
    way = choose(standing, transport, now).upper()
    if not standing.failures:
        return way
    times = "once" if standing.failures == 1 else f"{standing.failures} times"
    why = f"failed {times} since {_at(standing.since):%Y-%m-%d %H:%M} UTC ({standing.reason})"
    if way == "MQTT":
        return f"MQTT, which {why}"
    again = f"at {_at(standing.retry_at):%H:%M} UTC" if standing.retry_at else "when HTTPS fails too"
    return f"HTTPS, since MQTT {why}; MQTT is tried again {again}"


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
