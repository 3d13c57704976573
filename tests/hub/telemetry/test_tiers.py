"""Rollups in the store: added to, never replaced, and the same however heartbeats were cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.broker import commit
from hub.broker.devices import Devices
from hub.broker.reduce import parts, reduce
from hub.store import SqliteStore
from hub.telemetry import slots, tiers
from hub.telemetry.buckets import Bucket
from hub.telemetry.rollups import DAY_S, FIVE_S, HOUR_S
from tests.support.uplinks import open_store, rows, status, uplink
from topics.messages import Probes

NOW = 20_000 * DAY_S + 12 * HOUR_S


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = open_store(tmp_path, "a", "b")
    yield store
    store.close()


def bucket(start: int, *temperatures: float | None) -> Bucket:
    made = Bucket(start)
    for degrees in temperatures:
        made.add(status(probes=Probes(cpu_load=0.5, temperature=degrees)))
    return made


def test_a_late_bucket_is_added_to_what_is_there(store: SqliteStore) -> None:
    start = NOW - HOUR_S
    both = bucket(start, -3.0, -9.0, -1.0)
    for part in (bucket(start, -3.0, -9.0), bucket(start, -1.0)):
        with store.write() as tx:
            tiers.add_fives(tx, [(1, part)], NOW)
            tiers.add_hours(tx, [(1, part)])
    (row,) = rows(store, "SELECT * FROM rollups_5m")
    assert tiers.bucket_of(row) == both
    (row,) = rows(store, "SELECT * FROM rollups_1h")
    assert slots.unpack(row["hours"]) == slots.unpack(slots.pack([slots.slot_of(both)]))


@pytest.mark.parametrize(
    ("first", "second", "highest"),
    [
        pytest.param(-5.0, None, -5.0, id="nothing-read-later"),
        pytest.param(None, -5.0, -5.0, id="nothing-read-before"),
        pytest.param(-5.0, -2.0, -2.0, id="warmer-later"),
        pytest.param(-2.0, -5.0, -2.0, id="colder-later"),
    ],
)
def test_temperatures_below_zero_keep_their_maximum(
    store: SqliteStore, first: float | None, second: float | None, highest: float
) -> None:
    for degrees in (first, second):
        with store.write() as tx:
            tiers.add_fives(tx, [(1, bucket(NOW - HOUR_S, degrees))], NOW)
    assert rows(store, "SELECT degree_max FROM rollups_5m") == [{"degree_max": highest}]


def test_5_minutes_older_than_their_tier_are_left_to_the_hours(store: SqliteStore) -> None:
    oldest = NOW - tiers.KEEP_5M_S
    with store.write() as tx:
        tiers.add_fives(tx, [(1, bucket(oldest, 1.0)), (1, bucket(oldest - FIVE_S, 1.0))], NOW)
    assert rows(store, "SELECT start FROM rollups_5m") == [{"start": oldest}]


def test_hours_of_two_days_and_devices_stay_apart(store: SqliteStore) -> None:
    midnight = NOW - 12 * HOUR_S
    with store.write() as tx:
        tiers.add_hours(
            tx, [(1, bucket(midnight - 1, 1.0)), (1, bucket(midnight, 1.0)), (2, bucket(midnight, 1.0))]
        )
    found = rows(store, "SELECT day, device_key, hours FROM rollups_1h ORDER BY day, device_key")
    day = midnight // DAY_S
    assert [(row["day"], row["device_key"]) for row in found] == [(day - 1, 1), (day, 1), (day, 2)]
    assert [slots.unpack(row["hours"])[0].hour for row in found] == [23, 0, 0]


TABLES = ("rollups_5m", "rollups_1h", "device_latest")


def taken_in(folder: Path, size: int, order: list[int]) -> list[list[dict[str, Any]]]:
    """What the tables hold when two devices' heartbeats come in `order`, `size` of them in a batch."""
    folder.mkdir()
    store = open_store(folder, "a", "b")
    messages = [
        uplink(
            device,
            status(
                seq,
                at=NOW + 50 * seq,
                health="degraded" if seq % 40 == 7 else "ok",
                probes=Probes(cpu_load=seq % 4 / 4, temperature=seq % 7 - 3.0) if seq % 9 else None,
            ),
        )
        for seq in order
        for device in ("a", "b")
    ]
    known = Devices()
    now = NOW + 50 * len(order)
    for begin in range(0, len(messages), size):
        with store.write() as tx:
            for part in parts(messages[begin : begin + size], 2):
                commit.apply(tx, reduce(part, None, now), now * 1000, known)
    found = [rows(store, f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES]
    store.close()
    return found


IN_ORDER = list(range(1, 201))
LATE = [seq for ten in range(1, 201, 10) for seq in (ten + 9, *range(ten, ten + 9))]
TWICE = [seq for ten in range(1, 201, 10) for _ in range(2) for seq in range(ten, ten + 10)]


@pytest.mark.parametrize("size", [1, 2, 7, 400])
@pytest.mark.parametrize(
    "order",
    [
        pytest.param(IN_ORDER, id="in-order"),
        pytest.param(LATE, id="some-late"),
        pytest.param(TWICE, id="all-twice"),
    ],
)
def test_the_rows_are_the_same_however_heartbeats_are_cut_into_batches(
    tmp_path: Path, order: list[int], size: int
) -> None:
    found = taken_in(tmp_path / "cut", size, order)
    fives, hours, latest = taken_in(tmp_path / "whole", 10_000, IN_ORDER)
    assert [row["seq"] for row in latest] == [200, 200]
    for mine, theirs in zip(found[0], fives, strict=True):
        assert mine == pytest.approx(theirs)
    assert [slots.unpack(row["hours"]) for row in found[1]] == [slots.unpack(row["hours"]) for row in hours]
