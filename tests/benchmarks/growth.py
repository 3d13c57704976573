"""How the database grows: simulated days of heartbeats, one a minute a device, through reduce and commit.

The clock is stepped, so what is written is what a fleet would have written on those days. Then it is stepped to where
the hub's own retention folds the hours of each day into one row.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from hub.broker import commit
from hub.broker.arrivals import Uplink
from hub.broker.devices import Devices
from hub.broker.reduce import Topics, parts, reduce
from hub.store import SqliteStore
from hub.telemetry.retention import Keep, fold_hours
from hub.telemetry.rollups import DAY_S
from hub.telemetry.tiers import KEEP_1H_DAYS
from tests.benchmarks.contest import register
from tests.benchmarks.fill import device_names, heartbeat
from tests.support.uplinks import rows, topic
from topics import codec

MINUTE_S = 60
HOURS = "rollups_1h"
DAYS = "rollups_1d"
FIVES = "rollups_5m"
MINUTES_A_BATCH = 10
"""So that a batch of a small fleet is large, and still each heartbeat is written at about its time."""


def measure(folder: Path, devices: int, days: int) -> dict[str, float]:
    """Return bytes per device-day in the tiers, and bytes per device that do not grow, after `days` days."""
    register(folder, devices)
    store = SqliteStore(folder / "hub.db")
    store.expect_bulk()
    begin = int(time.time()) // DAY_S * DAY_S - (days + 1) * DAY_S
    known, topics = Devices(), Topics()
    for clock, batch in _minutes(devices, begin, days):
        with store.write() as tx:
            for part in parts(batch, devices):
                commit.apply(tx, reduce(part, topics, clock), clock * 1000, known)
    size = {name: _bytes(store, name) for name in (HOURS, FIVES, "device_latest")}
    beats = rows(store, "SELECT SUM(count) AS n FROM rollups_5m")[0]["n"]
    assert beats >= devices * (days * DAY_S // MINUTE_S - 10), (
        f"only {beats} heartbeats are in the 5-minute rows"
    )
    later = (begin + (days + 1 + KEEP_1H_DAYS + 1) * DAY_S) * 1000
    folded = sum(fold_hours(store, Keep(), later))
    assert folded >= devices * days, f"only {folded} days of hours were folded"
    size[DAYS] = _bytes(store, DAYS)
    store.close()
    device_days = devices * days
    return {
        "bytes_per_device_day": (size[HOURS] + size[DAYS]) / device_days,
        "bytes_per_device_day_1h": size[HOURS] / device_days,
        "bytes_per_device_day_1d": size[DAYS] / device_days,
        "bytes_per_device_day_5m": size[FIVES] / device_days,
        "bytes_per_device": size["device_latest"] / devices,
    }


def _minutes(devices: int, begin: int, days: int) -> Iterator[tuple[int, list[Uplink]]]:
    """The fleet's heartbeats and the time (s) of their arrival; one hour more, so that the last one is closed."""
    topics = [topic(name, "status") for name in device_names(devices)]
    batch: list[Uplink] = []
    for seq in range(1, (days * DAY_S + 3_700) // MINUTE_S + 1):
        clock = begin + MINUTE_S * (seq - 1)
        body = heartbeat(seq, 1, clock)
        batch += [Uplink(each, body, codec.JSON) for each in topics]
        if seq % MINUTES_A_BATCH == 0:
            yield clock, batch
            batch = []
    yield begin + days * DAY_S + 3_700, batch


def _bytes(store: SqliteStore, table: str) -> int:
    """Bytes of the pages that a table and its indexes take."""
    found = rows(
        store,
        "SELECT SUM(pgsize) AS bytes FROM dbstat WHERE aggregate = TRUE AND name IN "
        "(SELECT name FROM sqlite_schema WHERE tbl_name = :table)",
        table=table,
    )
    return int(found[0]["bytes"] or 0)
