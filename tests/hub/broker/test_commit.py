"""Writing batches: every statement may meet a message twice or late and must leave the row right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.broker import commit
from hub.broker.commit import Outcome
from hub.broker.reduce import Uplink, reduce
from hub.store import SqliteStore
from tests.support.uplinks import SPOOL, open_store, presence, result, rows, status, topic, uplink
from topics.messages import Running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = open_store(tmp_path, "a", "b")
    yield store
    store.close()


def put(store: SqliteStore, *uplinks: Uplink, now: int = 5_000) -> Outcome:
    with store.write() as tx:
        return commit.apply(tx, reduce(uplinks), now)


def test_a_heartbeat_becomes_the_devices_latest_row(store: SqliteStore) -> None:
    outcome = put(
        store, uplink("a", status(3, running=Running(id="kiosk-7-abc", sequence=7), health="degraded"))
    )
    (row,) = rows(store, "SELECT * FROM device_latest")
    expected = {"seq": 3, "boot": 1, "running": "kiosk-7-abc", "running_sequence": 7, "health": "degraded"}
    assert expected.items() <= row.items()
    assert (row["at"], row["received_at"]) == (1_000_000, 5_000)
    assert outcome.devices == {"a"}


@pytest.mark.parametrize(
    ("first", "second", "stays"),
    [
        pytest.param((1, 1), (1, 2), (1, 2), id="newer"),
        pytest.param((1, 2), (1, 1), (1, 2), id="older"),
        pytest.param((1, 9), (2, 1), (2, 1), id="rebooted"),
        pytest.param((2, 1), (1, 9), (2, 1), id="of-the-boot-before"),
    ],
)
def test_an_older_heartbeat_never_turns_the_row_back(
    store: SqliteStore, first: tuple[int, int], second: tuple[int, int], stays: tuple[int, int]
) -> None:
    for boot, seq in (first, second):
        put(store, uplink("a", status(seq, boot=(boot, "00000001"))))
    (row,) = rows(store, "SELECT boot, seq FROM device_latest")
    assert (row["boot"], row["seq"]) == stays


def test_a_repeated_heartbeat_does_not_make_the_device_look_alive(store: SqliteStore) -> None:
    put(store, uplink("a", status(1)), now=5_000)
    put(store, uplink("a", status(1)), now=9_000)
    assert rows(store, "SELECT received_at FROM device_latest") == [{"received_at": 5_000}]


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [
        pytest.param(("online", 1, 1), ("offline", 1, 1), "offline", id="will-of-the-same-session"),
        pytest.param(("online", 1, 2), ("offline", 1, 1), "online", id="stale-will-of-an-older-session"),
        pytest.param(("online", 2, 1), ("offline", 1, 5), "online", id="stale-will-of-an-older-boot"),
        pytest.param(("offline", 1, 1), ("online", 1, 2), "online", id="came-back"),
        pytest.param(("offline", 1, 9), ("online", 2, 1), "online", id="came-back-after-a-reboot"),
    ],
)
def test_a_stale_will_never_marks_a_live_device_offline(
    store: SqliteStore, first: tuple[Any, int, int], second: tuple[Any, int, int], state: str
) -> None:
    for what, boot, session in (first, second):
        put(store, uplink("a", presence(what, session, boot=(boot, "00000001"))))
    assert rows(store, "SELECT state FROM presence") == [{"state": state}]


def test_a_presence_read_back_from_the_broker_is_not_news(store: SqliteStore) -> None:
    put(store, uplink("a", presence("online", 4)), now=5_000)
    put(store, uplink("a", presence("online", 4)), now=9_000)
    assert rows(store, "SELECT received_at FROM presence") == [{"received_at": 5_000}]


def test_a_report_is_stored_once_however_often_it_comes(store: SqliteStore) -> None:
    for now in (1_000, 2_000):
        put(store, uplink("a", result(1)), uplink("a", result(1)), now=now)
    (row,) = rows(store, "SELECT * FROM reports")
    assert (row["n"], row["kind"], row["release_id"], row["received_at"]) == (
        1,
        "update-result",
        "kiosk-7-abc",
        1_000,
    )


def test_receipts_follow_the_reports_without_a_gap(store: SqliteStore) -> None:
    assert put(store, uplink("a", result(1))).receipts == {("a", SPOOL): 1}
    assert put(store, uplink("a", result(3))).receipts == {("a", SPOOL): 1}
    assert put(store, uplink("a", result(2))).receipts == {("a", SPOOL): 3}
    assert put(store, uplink("a", result(1))).receipts == {("a", SPOOL): 3}
    assert put(store, uplink("b", result(1))).receipts == {("b", SPOOL): 1}


def test_a_hub_that_lost_its_store_takes_up_where_the_device_is(store: SqliteStore) -> None:
    """The device has receipts up to 50 and holds 51 and 52."""
    held = [uplink("a", result(n)) for n in (51, 52)]
    assert put(store, *held).receipts == {("a", SPOOL): 0}
    assert put(store, *held, uplink("a", result(53))).receipts == {("a", SPOOL): 53}
    assert [row["n"] for row in rows(store, "SELECT n FROM reports ORDER BY n")] == [51, 52, 53]


def test_a_report_in_quarantine_is_receipted_so_that_later_ones_are_too(store: SqliteStore) -> None:
    bad = Uplink(topic("a", "update-result"), b"\x82\xa5spool\xa8" + SPOOL.encode() + b"\xa1n\x02")
    outcome = put(store, uplink("a", result(1)), bad, uplink("a", result(3)))
    assert outcome.receipts == {("a", SPOOL): 3}
    assert outcome.refused == 1
    (row,) = rows(store, "SELECT * FROM quarantine")
    assert (row["reason"], bytes(row["first_bytes"]), row["size"]) == (
        "invalid",
        bad.payload,
        len(bad.payload),
    )


@pytest.mark.parametrize(
    ("setup", "reason"),
    [
        pytest.param("SELECT 1", "unknown_device", id="never-registered"),
        pytest.param("UPDATE devices SET revoked_at = 1 WHERE device_id = 'a'", "revoked", id="revoked"),
    ],
)
def test_reports_of_devices_that_are_none_of_ours_go_to_quarantine(
    store: SqliteStore, setup: str, reason: str
) -> None:
    stranger = "a" if reason == "revoked" else "stranger"
    with store.write() as tx:
        tx.execute(setup)
    outcome = put(
        store,
        *[uplink(stranger, message) for message in (status(1), presence(), result(1))],
        uplink("b", status(1)),
    )
    assert outcome.devices == {"b"}
    assert outcome.receipts == {}
    assert rows(store, "SELECT reason, count FROM quarantine_counts") == [{"reason": reason, "count": 3}]
    for table in ("reports", "presence"):
        assert rows(store, f"SELECT * FROM {table}") == []


def test_many_devices_in_one_batch_are_all_found(tmp_path: Path) -> None:
    names = [f"device-{i}" for i in range(1_001)]
    store = open_store(tmp_path, *names)
    outcome = put(store, *[uplink(name, status(1)) for name in names])
    assert outcome.devices == set(names)
    assert rows(store, "SELECT COUNT(*) AS n FROM device_latest") == [{"n": 1_001}]
    store.close()


def test_quarantine_is_bounded_and_goes_on_counting(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "QUARANTINE_LIMIT", 3)
    for _ in range(2):
        put(store, *[Uplink(topic("a", "status"), b"junk" * 1000) for _ in range(2)])
    kept = rows(store, "SELECT first_bytes, size FROM quarantine")
    assert [(len(row["first_bytes"]), row["size"]) for row in kept] == [(512, 4000)] * 3
    assert rows(store, "SELECT reason, count FROM quarantine_counts") == [{"reason": "not_a_map", "count": 4}]


def attempt(store: SqliteStore) -> dict[str, Any]:
    (row,) = rows(store, "SELECT * FROM attempts")
    return row


@pytest.mark.parametrize(
    ("reported", "stays"),
    [
        pytest.param([(1, "downloading")], (1, "downloading"), id="began"),
        pytest.param([(1, "downloading"), (1, "committed")], (1, "committed"), id="succeeded"),
        pytest.param(
            [(1, "committed"), (1, "downloading")], (1, "committed"), id="late-begin-does-not-turn-back"
        ),
        pytest.param([(1, "failed"), (2, "downloading")], (2, "downloading"), id="second-try-began"),
        pytest.param([(2, "committed"), (1, "failed")], (2, "committed"), id="late-end-of-the-first-try"),
        pytest.param([(1, "committed"), (1, "rolled_back")], (1, "rolled_back"), id="fell-back-after-all"),
        pytest.param(
            [(1, "rolled_back"), (1, "committed")], (1, "rolled_back"), id="late-success-of-a-fall-back"
        ),
        pytest.param([(0, "refused"), (1, "downloading")], (1, "downloading"), id="refused-then-began"),
        pytest.param(
            [(1, "committed"), (1, "refused")], (1, "committed"), id="refusal-does-not-undo-a-success"
        ),
    ],
)
def test_an_attempt_never_goes_back(
    store: SqliteStore, reported: list[tuple[int, Any]], stays: tuple[int, str]
) -> None:
    for n, (number, state) in enumerate(reported, start=1):
        # Each with its own place in the spool, as arrivals in the wrong order have.
        put(store, uplink("a", result(n, state, attempt=number)))
    row = attempt(store)
    assert (row["attempt"], row["state"]) == stays


def test_reports_of_one_batch_take_effect_in_the_order_of_the_spool(store: SqliteStore) -> None:
    put(store, uplink("a", result(2, "failed", reason="no space")), uplink("a", result(1, "downloading")))
    assert (attempt(store)["state"], attempt(store)["reason"]) == ("failed", "no space")


def test_a_repeated_result_changes_nothing(store: SqliteStore) -> None:
    put(store, uplink("a", result(1, "failed", reason="first")), now=1_000)
    put(store, uplink("a", result(1, "failed", reason="first")), now=2_000)
    assert attempt(store)["updated_at"] == 1_000


def test_a_device_counts_in_the_segment_where_it_began(store: SqliteStore) -> None:
    put(store, uplink("a", result(1, "downloading", segment="canary")), now=1_000)
    put(store, uplink("a", result(2, "committed", segment="general", from_release="kiosk-6-abc")), now=2_000)
    row = attempt(store)
    assert (row["segment"], row["state"], row["from_id"]) == ("canary", "committed", "kiosk-6-abc")
    assert (row["began_at"], row["updated_at"]) == (1_000, 2_000)


def test_a_result_without_a_segment_counts_where_the_device_is_registered(store: SqliteStore) -> None:
    put(store, uplink("a", result(1)))
    assert attempt(store)["segment"] == "canary"


def test_a_result_that_names_no_release_is_kept_but_is_no_attempt(store: SqliteStore) -> None:
    outcome = put(store, uplink("a", result(1, "refused", None, check="malformed")))
    assert outcome.releases == frozenset()
    assert rows(store, "SELECT * FROM attempts") == []
    assert len(rows(store, "SELECT * FROM reports")) == 1


def test_the_outcome_names_releases_with_new_results(store: SqliteStore) -> None:
    outcome = put(store, uplink("a", result(1)), uplink("b", result(1, release="kiosk-8-def")))
    assert outcome.releases == {"kiosk-7-abc", "kiosk-8-def"}
