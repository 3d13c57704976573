"""The store: whole transactions or nothing, one writer, no data directory of a later version."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlite_utils

from hub.errors import SetupError
from hub.store import SqliteStore, StoreBusy, sqlite
from hub.store.schema import MIGRATIONS


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "hub.db")
    yield made
    made.close()


def put(store: SqliteStore, key: str) -> None:
    with store.write() as tx:
        tx.execute("INSERT INTO meta (key, value) VALUES (:key, '')", {"key": key})


def keys(store: SqliteStore) -> list[str]:
    with store.read() as tx:
        return [row["key"] for row in tx.all("SELECT key FROM meta ORDER BY key")]


def test_a_transaction_that_fails_leaves_nothing(store: SqliteStore) -> None:
    with pytest.raises(ZeroDivisionError), store.write() as tx:
        tx.execute("INSERT INTO meta (key, value) VALUES ('a', '')")
        raise ZeroDivisionError
    assert keys(store) == []
    put(store, "b")
    assert keys(store) == ["b"]


def test_a_reader_sees_one_moment_while_others_write(store: SqliteStore) -> None:
    put(store, "a")
    with store.read() as tx:
        assert len(tx.all("SELECT key FROM meta")) == 1
        writer = threading.Thread(target=put, args=(store, "b"))
        writer.start()
        writer.join()
        assert len(tx.all("SELECT key FROM meta")) == 1
    assert keys(store) == ["a", "b"]


def test_many_threads_write_without_losing_any(store: SqliteStore) -> None:
    threads = [threading.Thread(target=put, args=(store, f"{n:02}")) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys(store)) == 16


def test_listeners_hear_of_commits_and_of_nothing_else(store: SqliteStore) -> None:
    heard: list[int] = []
    store.on_commit(lambda: heard.append(1))
    put(store, "a")
    with pytest.raises(sqlite3.IntegrityError):
        put(store, "a")
    keys(store)
    assert heard == [1]


def test_a_database_held_by_another_program_is_busy_and_unchanged(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 50)
    other = sqlite3.connect(tmp_path / "hub.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused: list[type[BaseException]] = []

    def attempt() -> None:
        # A new thread, so that its connection is opened with the short time-out.
        try:
            put(store, "a")
        except StoreBusy:
            refused.append(StoreBusy)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    other.execute("ROLLBACK")
    other.close()
    assert refused == [StoreBusy]
    put(store, "a")
    assert keys(store) == ["a"]


def test_opening_again_keeps_what_is_there(store: SqliteStore, tmp_path: Path) -> None:
    put(store, "a")
    store.close()
    again = SqliteStore(tmp_path / "hub.db")
    assert keys(again) == ["a"]
    again.close()


def test_a_data_directory_of_a_newer_version_is_refused_in_one_sentence(
    store: SqliteStore, tmp_path: Path
) -> None:
    with store.write() as tx:
        tx.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('flaghoist', 'm999_later', '')"
        )
    store.close()
    with pytest.raises(SetupError, match="was written by a newer version of Flaghoist") as refusal:
        SqliteStore(tmp_path / "hub.db")
    assert "\n" not in str(refusal.value) and "m999_later" in str(refusal.value)


def test_a_file_that_is_no_database_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "hub.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(SetupError, match="cannot be opened"):
        SqliteStore(tmp_path / "hub.db")


def test_a_database_from_before_recovery_keeps_its_attempts_and_holds_nobody_back(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    old = sqlite_utils.Database(path, execute_plugins=False)
    MIGRATIONS.apply(old, stop_before="m009_recovery")
    old.execute(
        "INSERT INTO devices (device_id, public_key, role, segment, update_interval, created_at, updated_at) "
        "VALUES ('shop-1', x'00', 'kiosk', 'canary', 300, 1, 1)"
    )
    old.execute(
        "INSERT INTO attempts (release_id, device_key, attempt, segment, state, cause, reason, check_name, began_at, "
        "updated_at) VALUES ('kiosk-1', 1, 1, 'canary', 'downloading', 'own', '', '', 1, 1)"
    )
    old.conn.commit()
    old.close()
    store = SqliteStore(path)
    with store.write() as tx:
        device = tx.one("SELECT * FROM devices")
        assert device is not None and (device["quarantine_rule"], device["quarantined_at"]) == ("", 0)
        assert "commands" not in device.keys()  # noqa: SIM118  (a row is no mapping)
        tx.execute("UPDATE devices SET quarantine_rule = 'drift'")
        held = tx.one("SELECT state, devices FROM held_counts")
        assert held is not None and (held["state"], held["devices"]) == ("downloading", 1)
    store.close()


def test_a_database_from_before_renewals_knows_how_many_uses_its_tokens_had_left(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    old = sqlite_utils.Database(path, execute_plugins=False)
    MIGRATIONS.apply(old, stop_before="m014_certificates")
    old.execute(
        "INSERT INTO tokens (id, secret_hash, role, segment, uses_left, expires_at, created_at, created_by) "
        "VALUES ('t', x'00', 'kiosk', 'canary', 3, 9, 1, 'admin')"
    )
    old.conn.commit()
    old.close()
    store = SqliteStore(path)
    with store.read() as tx:
        token = tx.one("SELECT uses, uses_left, revoked_at, ca_sha256 FROM tokens")
        assert token is not None and dict(token) == {
            "uses": 3, "uses_left": 3, "revoked_at": None, "ca_sha256": ""
        }  # fmt: skip
    store.close()
