"""What is kept for a time only: it goes by age, in pieces, and nothing that is still wanted goes with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hub.broker import commit
from hub.broker.reduce import Uplink, reduce
from hub.jobs import schedule
from hub.store import StoreBusy
from hub.telemetry import retention, silent, slots
from hub.telemetry.retention import Keep
from hub.telemetry.rollups import DAY_S, HOUR_S
from hub.telemetry.thinning import Thinning
from tests.support.uplinks import SPOOL, open_store, presence, result, rows, status, uplink
from topics.messages import Message, Probes

START = 20_000 * DAY_S
"""The first second of a day."""


class Clocked:
    """A store, and a clock (s) that stands until it is moved."""

    def __init__(self, folder: Path, *device_ids: str) -> None:
        self.now = START
        self.store = open_store(folder, *device_ids)
        self.keep = Keep(hourly=20, daily=40, reports=30)

    def take(self, device_id: str, *messages: Message) -> commit.Outcome:
        return self.take_raw(*[uplink(device_id, message) for message in messages])

    def take_raw(self, *arrivals: Uplink) -> commit.Outcome:
        with self.store.write() as tx:
            return commit.apply(tx, reduce(arrivals, None, self.now), self.now * 1000)

    def beat(self, device_id: str, seq: int, **fields: Any) -> None:
        self.take(device_id, status(seq, at=self.now, **fields))

    def thin(self) -> dict[str, int]:
        return Thinning(self.store, self.keep, lambda: self.now * 1000, lambda _seconds: False).run()

    def rows(self, sql: str) -> list[dict[str, Any]]:
        return rows(self.store, sql)

    def hours(self) -> list[tuple[int, int, int]]:
        """Day, hour and heartbeats of every hour in the tier."""
        return [
            (row["day"] - START // DAY_S, slot.hour, slot.heartbeats)
            for row in self.rows("SELECT day, hours FROM rollups_1h ORDER BY day, device_key")
            for slot in slots.unpack(row["hours"])
        ]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Clocked]:
    made = Clocked(tmp_path, "a", "b")
    yield made
    made.store.close()


# Devices that fell silent


def test_the_last_hour_of_a_device_that_fell_silent_reaches_the_tiers(hub: Clocked) -> None:
    hub.beat("a", 1, health="degraded")
    hub.now += 300
    hub.beat("a", 2, probes=Probes(cpu_load=0.5))
    assert hub.hours() == []
    hub.now += silent.SILENT_S + 1
    assert hub.thin()["silent devices"] == 1
    assert hub.hours() == [(0, 0, 2)]
    fives = hub.rows("SELECT start, count, health, cpu_max FROM rollups_5m ORDER BY start")
    assert [tuple(row.values()) for row in fives] == [(START, 1, 1, 0.0), (START + 300, 1, 0, 0.5)]


def test_closing_again_changes_nothing(hub: Clocked) -> None:
    hub.beat("a", 1)
    hub.now += silent.SILENT_S + 1
    hub.thin()
    before = hub.rows("SELECT * FROM device_latest")
    assert hub.thin()["silent devices"] == 0
    assert hub.rows("SELECT * FROM device_latest") == before
    assert hub.hours() == [(0, 0, 1)]


def test_a_device_that_is_heard_keeps_its_buckets_open(hub: Clocked) -> None:
    hub.beat("a", 1)
    hub.now += silent.SILENT_S - 60
    assert hub.thin()["silent devices"] == 0
    assert hub.hours() == []


def test_a_heartbeat_that_comes_late_after_the_closing_counts_once(hub: Clocked) -> None:
    """Of the closed bucket itself, of one before it, and again."""
    hub.now += 600
    hub.beat("a", 1)
    hub.now += silent.SILENT_S + 1
    hub.thin()
    late = [status(3, at=START + 610), status(2, at=START + 10)]
    for _ in range(2):
        hub.take("a", *late)
    hub.now += silent.SILENT_S + 1
    hub.thin()
    assert hub.hours() == [(0, 0, 3)]
    fives = hub.rows("SELECT start, count FROM rollups_5m ORDER BY start")
    assert [tuple(row.values()) for row in fives] == [(START, 1), (START + 600, 2)]


def test_a_device_that_comes_back_goes_on_as_if_nothing_had_been_closed(hub: Clocked) -> None:
    hub.beat("a", 1)
    hub.now += silent.SILENT_S + 1
    hub.thin()
    for seq in (2, 3, 4):
        hub.beat("a", seq)
        hub.now += HOUR_S
    hub.now += silent.SILENT_S + 1
    hub.thin()
    assert hub.hours() == [(0, 0, 1), (0, 2, 1), (0, 3, 1), (0, 4, 1)]


def test_many_silent_devices_are_closed_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silent, "CHUNK", 3)
    names = [f"d{n}" for n in range(8)]
    hub = Clocked(tmp_path, *names)
    for name in names:
        hub.beat(name, 1)
    hub.now += silent.SILENT_S + 1
    assert list(silent.close(hub.store, hub.now * 1000)) == [3, 3, 2]
    assert [hour[2] for hour in hub.hours()] == [1] * 8
    hub.store.close()


# Tiers


def fill_tiers(hub: Clocked, days: int) -> None:
    """One heartbeat every six hours, closed."""
    for seq in range(1, 4 * days + 1):
        hub.beat("a", seq, health="failing" if seq % 4 == 2 else "ok", probes=Probes(disk_used=seq / 1000))
        hub.now += 6 * HOUR_S
    hub.now += silent.SILENT_S
    list(silent.close(hub.store, hub.now * 1000))


def test_five_minute_rows_are_kept_for_48_hours(hub: Clocked) -> None:
    fill_tiers(hub, 4)
    oldest = hub.now - 48 * HOUR_S
    younger = hub.rows(f"SELECT start FROM rollups_5m WHERE start >= {oldest} ORDER BY start")
    assert hub.thin()["5-minute rows"] == 16 - len(younger) > 0
    assert hub.rows("SELECT start FROM rollups_5m ORDER BY start") == younger


def test_hours_are_folded_into_days_and_days_end(hub: Clocked) -> None:
    fill_tiers(hub, 25)
    today = hub.now // DAY_S
    hub.thin()
    kept = {row["day"] for row in hub.rows("SELECT day FROM rollups_1h")}
    assert min(kept) == today - hub.keep.hourly
    days = hub.rows("SELECT day, slot FROM rollups_1d ORDER BY day")
    assert [row["day"] for row in days] == list(range(START // DAY_S, today - hub.keep.hourly))
    (first,) = slots.unpack(days[0]["slot"])
    assert (first.hour, first.heartbeats, first.health) == (slots.WHOLE_DAY, 4, 2)
    assert (first.disk_mean, first.disk_max) == (
        0.002,
        0.004,
    )  # of 1, 2, 3 and 4 thousandths, rounded to even

    hub.now += 30 * DAY_S
    hub.thin()
    assert hub.rows("SELECT * FROM rollups_1h") == []
    assert min(row["day"] for row in hub.rows("SELECT day FROM rollups_1d")) == (
        hub.now // DAY_S - hub.keep.daily
    )


def test_an_hour_that_comes_after_its_day_was_folded_is_added_to_the_day(hub: Clocked) -> None:
    hub.beat("a", 1)
    hub.now += silent.SILENT_S + 1
    hub.thin()
    row = hub.rows("SELECT * FROM rollups_1h")[0]
    hub.now += 21 * DAY_S
    hub.thin()
    with hub.store.write() as tx:
        tx.execute(
            "INSERT INTO rollups_1h (day, device_key, hours) VALUES (:day, :device_key, :hours)",
            row,
        )
    hub.thin()
    (day,) = hub.rows("SELECT slot FROM rollups_1d")
    assert slots.unpack(day["slot"])[0].heartbeats == 2


# Durable reports


def test_receipted_reports_end_and_a_copy_of_one_is_still_no_news(hub: Clocked) -> None:
    hub.take("a", *[result(n) for n in (1, 2, 3)])
    hub.now += 31 * DAY_S
    hub.take("a", result(4))
    assert hub.thin()["reports"] == 3
    assert [row["n"] for row in hub.rows("SELECT n FROM reports")] == [4]
    outcome = hub.take("a", result(2), result(4), result(5))
    assert outcome.receipts == {("a", SPOOL): 5}
    assert [row["n"] for row in hub.rows("SELECT n FROM reports ORDER BY n")] == [4, 5]


def test_what_was_not_receipted_is_kept_however_old(hub: Clocked) -> None:
    """Number 2 never came, so the device still holds 3 and will send it again."""
    hub.take("a", result(1), result(3))
    hub.now += 400 * DAY_S
    assert hub.thin()["reports"] == 1
    assert [row["n"] for row in hub.rows("SELECT n FROM reports")] == [3]
    assert hub.take("a", result(2), result(3)).receipts == {("a", SPOOL): 3}
    assert [row["n"] for row in hub.rows("SELECT n FROM reports ORDER BY n")] == [2, 3]


def test_a_report_that_was_late_itself_is_kept_from_its_arrival_on(hub: Clocked) -> None:
    hub.take("a", result(1, at=1))
    hub.now += 29 * DAY_S
    assert hub.thin()["reports"] == 0


def test_reports_of_a_deleted_device_end_by_age_alone(hub: Clocked) -> None:
    hub.take("a", result(1), result(3))
    with hub.store.write() as tx:
        tx.execute("DELETE FROM spools")
        tx.execute("DELETE FROM devices WHERE device_id = 'a'")
    hub.now += 31 * DAY_S
    assert hub.thin()["reports"] == 2


def test_what_rollouts_counted_stays_when_its_reports_are_gone(hub: Clocked) -> None:
    hub.take("a", result(1, "committed"))
    hub.now += 31 * DAY_S
    hub.thin()
    assert hub.rows("SELECT state FROM attempts") == [{"state": "committed"}]


def test_many_reports_go_piece_by_piece_and_those_that_stay_are_passed_over(
    hub: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "CHUNK", 4)
    hub.take("a", *[result(n) for n in range(1, 8)], *[result(n) for n in (20, 21)])
    hub.take("b", *[result(n) for n in range(1, 4)])
    hub.now += 31 * DAY_S
    assert list(retention.drop_reports(hub.store, hub.keep, hub.now * 1000)) == [4, 4, 2]
    assert [row["n"] for row in hub.rows("SELECT n FROM reports ORDER BY n")] == [20, 21]
    assert [row["pruned"] for row in hub.rows("SELECT pruned FROM spools ORDER BY device_key")] == [7, 3]


# Presence log


def test_presence_entries_end_after_a_month_but_for_each_devices_newest(hub: Clocked) -> None:
    for session in range(1, 5):
        for device_id in ("a", "b"):
            hub.take(device_id, presence("online" if session % 2 else "offline", session))
        hub.now += DAY_S
    hub.now += 29 * DAY_S
    hub.take("b", presence("online", 5))
    hub.now += 2 * DAY_S
    assert hub.thin()["presence log"] == 7
    assert [(row["device_key"], row["session"]) for row in hub.rows("SELECT * FROM presence_log")] == [
        (1, 4),
        (2, 5),
    ]
    with hub.store.write() as tx:
        tx.execute("DELETE FROM devices WHERE device_id = 'a'")
    assert hub.thin()["presence log"] == 1


def test_an_entry_that_still_grows_is_not_old(hub: Clocked) -> None:
    for session in range(1, 40):
        hub.take("a", presence("online", session), presence("sleeping", session, next_wake=hub.now + DAY_S))
        hub.now += DAY_S
    assert hub.thin()["presence log"] == 0


# Quarantine


def test_quarantine_is_emptied_after_a_month_and_its_counts_stay(hub: Clocked) -> None:
    bad = Uplink("acme/v1/devices/a/up/status", b"\xc1")
    hub.take_raw(bad, bad)
    hub.now += 31 * DAY_S
    hub.take_raw(bad)
    assert hub.thin()["quarantine"] == 2
    assert len(hub.rows("SELECT * FROM quarantine")) == 1
    assert [row["count"] for row in hub.rows("SELECT count FROM quarantine_counts")] == [3]


# The job


def test_ingest_gets_the_store_between_two_pieces(hub: Clocked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CHUNK", 1)
    hub.take("a", *[result(n) for n in range(1, 4)])
    hub.now += 31 * DAY_S
    heard = iter(range(4, 100))

    def pause(_seconds: float) -> bool:
        hub.take("a", result(next(heard)))
        return False

    assert Thinning(hub.store, hub.keep, lambda: hub.now * 1000, pause).run()["reports"] == 3
    assert len(hub.rows("SELECT * FROM reports")) == 3


def test_the_pause_is_nine_times_what_the_piece_took(hub: Clocked, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.take("a", result(1))
    hub.now += 31 * DAY_S
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    pauses: list[float] = []

    def pause(seconds: float) -> bool:
        pauses.append(seconds)
        return False

    Thinning(hub.store, hub.keep, lambda: hub.now * 1000, pause).run()
    assert pauses == [18]


def test_a_hub_that_stops_waits_for_one_piece_only(hub: Clocked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CHUNK", 1)
    hub.take("a", *[result(n) for n in range(1, 4)])
    hub.now += 31 * DAY_S
    thinning = Thinning(hub.store, hub.keep, lambda: hub.now * 1000)
    thinning.stop()
    assert thinning.run() == dict.fromkeys(retention.STEPS, 0)
    stopped = Thinning(hub.store, hub.keep, lambda: hub.now * 1000, lambda _seconds: True)
    assert stopped.run()["reports"] == 1


def test_what_was_thinned_is_counted_and_when_all_was_done(hub: Clocked) -> None:
    hub.take("a", result(1), result(2))
    thinning = Thinning(hub.store, hub.keep, lambda: hub.now * 1000, lambda _seconds: False)
    thinning.run()
    assert (thinning.rows["reports"], thinning.ended_at) == (0, hub.now * 1000)
    hub.now += 31 * DAY_S
    thinning.run()
    thinning.run()
    assert (thinning.rows["reports"], thinning.ended_at) == (2, hub.now * 1000)
    thinning.stop()
    hub.now += 1
    thinning.run()
    assert thinning.ended_at == hub.now * 1000 - 1000


def test_a_store_that_refuses_is_tried_again_at_the_next_run(
    hub: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.take("a", result(1))
    hub.now += 31 * DAY_S

    def refuse() -> None:
        raise StoreBusy("locked")

    with monkeypatch.context() as patch:
        patch.setattr(hub.store, "write", refuse)
        assert hub.thin()["reports"] == 0
    assert hub.thin()["reports"] == 1


def test_thinning_is_a_job_of_the_hub() -> None:
    nothing = dict.fromkeys(("tick", "watch", "thin", "refresh", "renew"), int)
    jobs = {job.id: job.trigger.interval.total_seconds() for job in schedule(**nothing).get_jobs()}
    assert jobs["thin"] == 900


def test_what_is_due_by_the_day_is_looked_at_soon_after_a_start() -> None:
    nothing = dict.fromkeys(("tick", "watch", "thin", "refresh", "renew"), int)
    (job,) = [job for job in schedule(**nothing).get_jobs() if job.id == "refresh-manifests"]
    assert job.next_run_time < datetime.now(UTC) + timedelta(minutes=2)
