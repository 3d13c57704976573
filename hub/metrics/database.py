"""Metrics that the database answers: events, quarantine, releases, rollouts, devices, and its own size."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from prometheus_client.metrics_core import Metric

from hub.broker.reduce import REASONS
from hub.deployment import counts
from hub.deployment.manifests import policy_of
from hub.deployment.rules import ACTIVE
from hub.metrics.parts import counter, counters, gauge, gauges
from hub.metrics.registry import Collect
from hub.presence import PRESENCES
from hub.recovery.rules import RULES
from hub.store import Store, Tx
from hub.summaries import device_counts

STATES: Final = ("draft", "published", *ACTIVE, "rolled_back", "superseded", "complete")
HEALTHS: Final = ("ok", "degraded", "failing", "unknown")
OUTCOMES: Final = ("in_progress", "committed", "failed", "rolled_back", "lost", "drifted", "safe_mode")
LEAST_S: Final = 15.0
SHARE: Final = 20
"""Counting may take one part in `SHARE` of the time, as in `hub.pulse`."""


class Cached:
    """Remembers an answer for `LEAST_S` seconds, or `SHARE` times what it took. `clock` gives seconds."""

    def __init__(self, ask: Callable[[], list[Metric]], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._answer: list[Metric] = []
        self._good_until = float("-inf")

    def __call__(self) -> Iterable[Metric]:
        """Return the answer, at most so old."""
        with self._lock:
            begin = self._clock()
            if begin >= self._good_until:
                self._answer = self._ask()
                end = self._clock()
                self._good_until = end + max(LEAST_S, SHARE * (end - begin))
            return self._answer


def store(data: Store, file: Path) -> Collect:
    """Events, quarantine, the root, and the size of the database in `file`. Cheap at any size of the fleet."""

    def collect() -> list[Metric]:
        with data.read() as tx:
            refused = dict.fromkeys(REASONS, 0) | {
                row["reason"]: row["count"] for row in tx.all("SELECT reason, count FROM quarantine_counts")
            }
            sealed = _number(tx, "SELECT COALESCE(MAX(n), 0) AS number FROM events")
            unsealed = _number(tx, "SELECT COUNT(*) AS number FROM events WHERE n IS NULL")
            expiry = _number(tx, "SELECT expires_at AS number FROM roots ORDER BY version DESC LIMIT 1")
        found = [
            gauge("flaghoist_store_database_bytes", "Size of the database file.", _size(file)),
            gauge(
                "flaghoist_store_wal_bytes",
                "Size of the database's write-ahead log.",
                _size(file.with_name(file.name + "-wal")),
            ),
            counters(
                "flaghoist_ingest_refused_messages_total",
                "Messages put in quarantine, by reason, since the data directory was made.",
                ["reason"],
                {(reason,): count for reason, count in refused.items()},
            ),
            counter("flaghoist_events_total", "Events numbered; the number of the newest.", sealed),
            gauge("flaghoist_events_unsealed", "Events that the leader has not numbered yet.", unsealed),
        ]
        if expiry:
            found.append(
                gauge(
                    "flaghoist_root_expiry_timestamp_seconds",
                    "When the newest root of trust expires, in seconds since the epoch.",
                    expiry / 1000,
                )
            )
        return found

    return collect


def rollouts(data: Store, now: Callable[[], int], observed_since: Callable[[], int]) -> Cached:
    """Releases by state, and devices by outcome of each release that is under way; times in ms."""

    def collect() -> list[Metric]:
        with data.read() as tx:
            by_state = dict.fromkeys(STATES, 0) | {
                row["state"]: row["releases"]
                for row in tx.all("SELECT state, COUNT(*) AS releases FROM releases GROUP BY state")
            }
            began, outcomes = _progress(tx, now(), observed_since())
        return [
            gauges(
                "flaghoist_releases",
                "Releases, by state.",
                ["state"],
                {(state,): count for state, count in by_state.items()},
            ),
            gauges(
                "flaghoist_rollout_began_devices",
                "Devices that began to take a release that is under way, by the segment they began in.",
                ["release", "role", "segment"],
                began,
            ),
            gauges(
                "flaghoist_rollout_devices",
                f"What became of the devices that began: {', '.join(OUTCOMES)}.",
                ["release", "role", "segment", "outcome"],
                outcomes,
            ),
        ]

    return Cached(collect)


def devices(data: Store, now: Callable[[], int]) -> Cached:
    """Devices by role, segment and presence, by health, and by the rule that holds them back; `now` gives ms."""

    def collect() -> list[Metric]:
        presences: dict[tuple[str, ...], float] = {}
        healths: dict[tuple[str, ...], float] = {}
        quarantined: dict[tuple[str, ...], float] = {}
        with data.read() as tx:
            rows = device_counts(tx, now())
            held = tx.all(_QUARANTINED)
        for row in rows:
            place = (row["role"], row["segment"])
            for presence in PRESENCES:
                presences.setdefault((*place, presence), 0)
            for health in HEALTHS:
                healths.setdefault((*place, health), 0)
            for rule in RULES:
                quarantined.setdefault((*place, rule), 0)
            presences[*place, row["presence"]] += row["devices"]
            healths[*place, row["health"]] += row["devices"]
        for one in held:
            quarantined[one["role"], one["segment"], one["rule"]] = one["devices"]
        return [
            gauges(
                "flaghoist_devices",
                "Devices that are not revoked, by presence: online, sleeping, offline or unknown.",
                ["role", "segment", "presence"],
                presences,
            ),
            gauges(
                "flaghoist_device_health",
                "The same devices by the health in their last heartbeat: ok, degraded, failing or unknown.",
                ["role", "segment", "health"],
                healths,
            ),
            gauges(
                "flaghoist_devices_quarantined",
                "Devices that are held back, by the rule that found them.",
                ["role", "segment", "rule"],
                quarantined,
            ),
        ]

    return Cached(collect)


def _progress(tx: Tx, now: int, observed_since: int) -> tuple[dict[Any, float], dict[Any, float]]:
    began: dict[Any, float] = {}
    outcomes: dict[Any, float] = {}
    for release in tx.all("SELECT * FROM releases WHERE state IN ('rolling', 'paused', 'halted')"):
        policy = policy_of(release)
        known = counts.known(tx, release, policy, now=now, observed_since=observed_since).all
        for segment, here in known.items():
            key = (release["id"], release["role"], segment)
            began[key] = here.began
            for outcome in OUTCOMES:
                outcomes[*key, outcome] = getattr(here, outcome)
    return began, outcomes


_QUARANTINED: Final = (
    "SELECT role, segment, quarantine_rule AS rule, COUNT(*) AS devices FROM devices "
    "WHERE quarantine_rule <> '' AND revoked_at IS NULL GROUP BY 1, 2, 3"
)


def _number(tx: Tx, sql: str) -> int:
    row = tx.one(sql)
    return int(row["number"]) if row else 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
