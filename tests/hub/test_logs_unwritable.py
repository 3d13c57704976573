"""A log that cannot be written costs its lines and nothing else: the disk that is full is often the log's as well."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from hub import logs
from hub.store import SqliteStore, sqlite
from tests.support.intake import intake
from tests.support.mosquitto import Broker, wait_until
from tests.support.raw import Raw, publish
from tests.support.uplinks import open_store, result, rows, topic
from topics import codec


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def broken_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.fixture(
    params=[pytest.param(full, id="full-disk"), pytest.param(broken_pipe, id="reader-of-the-pipe-ended")]
)
def unwritable(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard error takes nothing, and everything is logged to it."""
    root = logging.getLogger()
    handlers, level, known = root.handlers, root.level, structlog.get_config()
    # Unbuffered below, as standard error is: what was not written is not tried again when it is closed.
    with os.fdopen(request.param(), "wb", buffering=0) as raw:
        monkeypatch.setattr(sys, "stderr", Refusing(raw.fileno()))
        logs.configure(terminal=False)
        yield
    root.handlers, root.level = handlers, level
    structlog.configure(**known)


class Refusing:
    """A text file over a descriptor that keeps nothing back."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        return os.write(self._descriptor, text.encode())

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


def test_what_cannot_be_logged_is_let_go(unwritable: None) -> None:
    structlog.get_logger("hub").error("nobody reads this")
    logging.getLogger("library").error("nor this")


def test_ingest_that_cannot_log_its_trouble_goes_on_when_the_trouble_is_over(
    unwritable: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    store = open_store(tmp_path, "a")
    with Broker(tmp_path) as broker, intake(broker, store) as slot:
        other = SqliteStore(tmp_path / "hub.db")
        with other.write() as tx:
            tx.execute("INSERT INTO meta (key, value) VALUES ('locked', '1')")
            publish(broker, "a", [Raw(topic("a", "update-result"), codec.encode(result(1)), codec.MSGPACK)])
            wait_until(lambda: "store cannot be written" in slot.problem)
        other.close()
        wait_until(lambda: slot.taken == 1)
        broker.kill()
        wait_until(lambda: "not connected" in slot.problem)
        broker.start()
        wait_until(lambda: slot.connections == 2)
    assert rows(store, "SELECT n FROM reports") == [{"n": 1}]
    store.close()
