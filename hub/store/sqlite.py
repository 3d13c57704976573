"""SQLite engine: WAL, `synchronous=FULL`, one writer at a time, a connection per thread.

sqlite-utils does schema and migrations; hot paths use plain SQL. Transactions begin IMMEDIATE, because
sqlite-utils' own deferred ones fail at once when they read before they write.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from hub.errors import SetupError
from hub.store.base import Params, Row, StoreBusy, StoreFull, Tx
from hub.store.schema import MIGRATIONS

BUSY_TIMEOUT_MS = 5_000
PAGE_BYTES = 8_192
"""Twice SQLite's own: rows of ingest lie side by side, and every page that a batch touches is written whole."""
CACHE_KB = 512
"""Of each thread's connection: the system keeps the file's pages as well, and requests are served by many threads."""
BULK_CACHE_KB = 4_096
BULK_LOG_PAGES = 4_000
"""Pages in the write-ahead log at which a bulk writer copies them to the database: 32 MB."""
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)


class _SqliteTx:
    """`Tx` over one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, params: Params | None = None) -> int:
        return self._connection.execute(sql, params or {}).rowcount

    def executemany(self, sql: str, rows: Iterable[Params]) -> None:
        self._connection.executemany(sql, rows)

    def one(self, sql: str, params: Params | None = None) -> Row | None:
        row: Row | None = self._connection.execute(sql, params or {}).fetchone()
        return row

    def all(self, sql: str, params: Params | None = None) -> list[Row]:
        return self._connection.execute(sql, params or {}).fetchall()

    def tuples(self, sql: str, params: Params | None = None) -> list[tuple[Any, ...]]:
        cursor = self._connection.cursor()
        cursor.row_factory = None
        return cursor.execute(sql, params or {}).fetchall()


class SqliteStore:
    """`Store` in one file. Raises `SetupError` when the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._write_lock = threading.Lock()
        self._connections: list[sqlite3.Connection] = []
        self._listeners: list[Callable[[], None]] = []
        try:
            self._migrate()
        except sqlite3.Error as error:
            raise SetupError(
                f"The database {path} cannot be opened ({error}); check that the folder is writable and the file whole."
            ) from None

    def _migrate(self) -> None:
        database = Database(self._connection(), execute_plugins=False)
        unknown = {migration.name for migration in MIGRATIONS.applied(database)} - _known_migrations()
        if unknown:
            raise SetupError(
                f"The data directory {self._path.parent} was written by a newer version of Flaghoist "
                f"(it knows {sorted(unknown)[0]!r}); start that version, or restore a backup made by this one."
            )
        MIGRATIONS.apply(database)

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self._path, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000, check_same_thread=False
            )
            connection.row_factory = sqlite3.Row
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # heeded by a new file alone
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KB}")
            self._local.connection = connection
            self._connections.append(connection)
        return connection

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """See `Store.read`."""
        connection = self._connection()
        if connection.in_transaction:
            yield _SqliteTx(connection)
            return
        connection.execute("BEGIN")
        try:
            yield _SqliteTx(connection)
        finally:
            connection.execute("ROLLBACK")

    @contextmanager
    def write(self) -> Iterator[Tx]:
        """See `Store.write`."""
        connection = self._connection()
        with self._write_lock:
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield _SqliteTx(connection)
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            except sqlite3.OperationalError as error:
                code = error.sqlite_errorcode & 0xFF
                if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise StoreBusy(str(error)) from error
                if code in _FULL:
                    raise StoreFull(str(error)) from error
                raise
        for listener in self._listeners:
            listener()

    def expect_bulk(self) -> None:
        """See `Store.expect_bulk`. A cache that is too small spills into the log within a transaction."""
        self._connection().execute(f"PRAGMA cache_size = -{BULK_CACHE_KB}")
        self._connection().execute(f"PRAGMA wal_autocheckpoint = {BULK_LOG_PAGES}")

    def on_commit(self, listener: Callable[[], None]) -> None:
        """See `Store.on_commit`."""
        self._listeners.append(listener)

    def close(self) -> None:
        """See `Store.close`."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._local = threading.local()


def _known_migrations() -> set[str]:
    with closing(Database(memory=True)) as empty:
        return {migration.name for migration in MIGRATIONS.pending(empty)}
