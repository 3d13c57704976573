"""A full disk: nothing is acknowledged, everybody who looks is told, and it goes on by itself when there is room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import pytest

from hub.broker.ingest import Ingest
from hub.metrics import Metrics, parts
from hub.store import SqliteStore, Store, StoreFull
from hub.telemetry.retention import Keep
from hub.telemetry.rollups import DAY_S
from hub.telemetry.thinning import Thinning
from hub.times import now_ms
from tests.support.disks import fill, small_disk
from tests.support.intake import intake
from tests.support.mosquitto import Broker, wait_until
from tests.support.raw import Raw, publish
from tests.support.uplinks import SPOOL, open_store, result, rows, topic
from topics import codec

REPORTS = 300
KEEP_DAYS = 30


class Bounded(SqliteStore):
    """A store whose file may not grow beyond `pages`, as on a disk of that size."""

    pages = 2**30

    def _connection(self) -> Connection:
        connection = super()._connection()
        connection.execute(f"PRAGMA max_page_count = {self.pages}")
        return connection


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as broker:
        yield broker


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "4m") as folder:
        yield folder


def reports(first: int) -> list[Raw]:
    """Update results of a kilobyte each, from number `first` on."""
    return [
        Raw(topic("a", "update-result"), codec.encode(result(n, reason="x" * 1000)), codec.MSGPACK)
        for n in range(first, first + REPORTS)
    ]


def kept(store: Store) -> list[int]:
    return [
        row["n"] for row in rows(store, "SELECT n FROM reports WHERE spool = :spool ORDER BY n", spool=SPOOL)
    ]


def metric(slot: Ingest) -> float:
    """What Prometheus is told of the slot's problem."""
    metrics = Metrics()
    metrics.add("ingest", parts.ingest({"ingest-0": slot}, now_ms))
    text = metrics.text().decode()
    (line,) = [line for line in text.splitlines() if line.startswith("flaghoist_ingest_problem{")]
    return float(line.rsplit(maxsplit=1)[1])


def test_h2_a_disk_that_old_reports_have_filled_has_room_again_once_they_are_thinned(
    broker: Broker, tmp_path: Path
) -> None:
    open_store(tmp_path, "a").close()
    store = Bounded(tmp_path / "hub.db")
    fill_with_old_reports(store)
    full = rows(store, "PRAGMA page_count")[0]["page_count"]
    Bounded.pages = full
    with intake(broker, store) as slot:
        publish(broker, "a", reports(1))
        wait_until(lambda: "store cannot be written" in slot.problem)
        assert metric(slot) == 1.0
        assert slot.taken == len(kept(store)) < REPORTS, "acknowledged is what is kept"
        done = Thinning(store, Keep(reports=KEEP_DAYS), now_ms, lambda _seconds: False).run()
        assert done["reports"] > 0
        wait_until(lambda: slot.taken == REPORTS)
        assert (slot.problem, metric(slot), slot.connections) == ("", 0.0, 1)
    assert kept(store) == [*range(1, REPORTS + 1)]
    assert rows(store, "PRAGMA page_count")[0]["page_count"] <= full
    store.close()


def fill_with_old_reports(store: Bounded) -> None:
    old = now_ms() - 2 * KEEP_DAYS * DAY_S * 1000
    with store.write() as tx:
        row: Any = tx.one("SELECT key FROM devices")
        tx.executemany(
            "INSERT INTO reports (device_key, spool, n, kind, at, received_at, body) "
            "VALUES (?, 'cafecafe', ?, 'drift', ?, ?, ?)",
            [(row["key"], n, old, old, b"x" * 3_000) for n in range(1, 501)],
        )
        tx.execute(
            "INSERT INTO spools (device_key, spool, contiguous) VALUES (?, 'cafecafe', 500)", (row["key"],)
        )


def test_a_disk_that_is_full_stops_acknowledgement_and_nothing_else(broker: Broker, disk: Path) -> None:
    """On a real file system without room. The way out is to make some; nothing is started again."""
    store = open_store(disk, "a")
    ballast = disk / "ballast"
    with intake(broker, store) as slot:
        publish(broker, "a", reports(1)[:1])
        wait_until(lambda: slot.taken == 1)
        fill(ballast)
        publish(broker, "a", reports(2))
        wait_until(lambda: "store cannot be written" in slot.problem)
        assert slot.taken == len(kept(store)) < 1 + REPORTS, "acknowledged is what is kept"
        with pytest.raises(StoreFull), store.write() as tx:
            tx.execute("INSERT INTO meta (key, value) VALUES ('large', :text)", {"text": "x" * 500_000})
        assert kept(store)[0] == 1, "reading works all the time"
        ballast.unlink()
        wait_until(lambda: slot.taken == 1 + REPORTS)
        assert (slot.problem, slot.connections) == ("", 1)
    assert kept(store) == [*range(1, REPORTS + 2)]
    store.close()
