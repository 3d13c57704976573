"""What every engine offers.

SQL is written once with `:name` parameters, columns qualified in `DO UPDATE SET`, and CASE instead of boolean
arithmetic, so that the same text runs on SQLite and PostgreSQL. Hot paths use `?` and parameters by position,
which takes half the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

Params = Mapping[str, Any] | Sequence[Any]


class Row(Protocol):
    """One row, by column name; `dict(row)` works."""

    def __getitem__(self, column: str, /) -> Any: ...

    def keys(self) -> Iterable[str]:
        """Column names."""


class StoreBusy(Exception):  # noqa: N818  (named by outcome)
    """The database is locked by somebody else past the time-out; the transaction changed nothing."""


class StoreFull(Exception):  # noqa: N818
    """The disk is full or failing; the transaction changed nothing."""


class Tx(Protocol):
    """One transaction. Nothing is visible to others before it ends well."""

    def execute(self, sql: str, params: Params = ...) -> int:
        """Run one statement; return how many rows it changed."""

    def executemany(self, sql: str, rows: Iterable[Params]) -> None:
        """Run one statement for each of `rows`."""

    def one(self, sql: str, params: Params = ...) -> Row | None:
        """Return the first row, or None."""

    def all(self, sql: str, params: Params = ...) -> list[Row]:
        """Return every row."""

    def tuples(self, sql: str, params: Params = ...) -> list[tuple[Any, ...]]:
        """Return every row without the names of its columns."""


@runtime_checkable  # litestar checks what it injects
class Store(Protocol):
    """An engine with its schema migrated."""

    def read(self) -> AbstractContextManager[Tx]:
        """A consistent snapshot for reading."""

    def write(self) -> AbstractContextManager[Tx]:
        """A transaction that holds the write lock from its start; commits at the end, or undoes everything.

        Raises `StoreBusy` and `StoreFull`.
        """

    def expect_bulk(self) -> None:
        """Give this thread's connection the memory for transactions of tens of thousands of rows."""

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call `listener` (quick, thread-safe) after every commit of a `write`."""

    def close(self) -> None:
        """Close this process's connections."""
