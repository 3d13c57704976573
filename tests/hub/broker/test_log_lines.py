"""`up/log`: read, judged, bounded, and handed to the sinks after the commit; nothing of them is in the database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.broker import commit
from hub.broker.handon import hand_on
from hub.broker.ingest import Ingest, IngestSettings
from hub.broker.reduce import Uplink, reduce
from hub.store import SqliteStore
from hub.telemetry.sinks import Line, Lines, Ndjson
from hub.telemetry.sinks.lines import LOGS_A_BATCH, without_floods
from hub.times import now_ms
from tests.support.mosquitto import Broker, wait_until
from tests.support.uplinks import BOOT, open_store, rows, status, topic, uplink
from topics import codec
from topics.messages import Log, LogLine

TOPIC = topic("a", "log")


def log(*texts: str, **fields: Any) -> Log:
    return Log(boot=BOOT, at=1000, lines=[LogLine(at=1000, text=text) for text in texts], **fields)


def raw(**fields: Any) -> bytes:
    return msgspec.json.encode({"boot": BOOT, "at": 1000, "lines": [], **fields})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = open_store(tmp_path, "a", "b")
    yield store
    store.close()


def test_lines_of_a_device_reach_the_files_and_what_is_none_goes_to_quarantine(
    tmp_path: Path, store: SqliteStore
) -> None:
    sink = Ndjson(tmp_path / "lines", now=now_ms)
    lines = Lines([sink])
    lines.start()
    with Broker(tmp_path, slots=1) as broker:
        settings = IngestSettings(broker.fleet, broker.service_port, window=0.01)
        slot = Ingest(
            store,
            settings,
            broker.service_files(settings.name),
            now=now_ms,
            on_arrivals=lambda arrivals: hand_on(lines, arrivals),
        )
        slot.start()
        try:
            wait_until(lambda: slot.connections, what="the subscription")
            with broker.device("a") as device:
                device.send(TOPIC, raw(lines=[{"at": 1, "text": "x", "level": "fatal"}]), qos=0)
                device.send(TOPIC, codec.encode(log("swap done", "all\nwell")), kind=codec.MSGPACK, qos=0)
                wait_until(lambda: sink.sent == 2, what="the lines")
        finally:
            slot.stop()
            lines.stop()
    (file,) = (tmp_path / "lines").iterdir()
    written = [json.loads(text) for text in file.read_text().splitlines()]
    assert [(line["device_id"], line["kind"], line["body"]["text"]) for line in written] == [
        ("a", "log", "swap done"),
        ("a", "log", "all\nwell"),
    ]
    quarantined = rows(store, "SELECT topic, reason FROM quarantine")
    assert quarantined == [{"topic": TOPIC, "reason": "invalid"}]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b"x", "not_a_map", id="junk"),
        pytest.param(raw(lines=[{"at": 1, "text": "x" * 1025}]), "invalid", id="a line too long"),
        pytest.param(raw(lines=[{"at": 1, "text": "x"}] * 129), "invalid", id="too many lines"),
        pytest.param(raw(lines=[{"at": 1, "text": "x\0"}]), "invalid", id="NUL in a line"),
        pytest.param(raw(lines=[{"text": "x"}]), "invalid", id="a line without a time"),
        pytest.param(raw(device_id="b"), "wrong_device", id="of another device"),
        pytest.param(b'{"lines":"' + b"x" * 70_000 + b'"}', "too_large", id="too large"),
    ],
)
def test_what_is_no_log_is_refused_with_a_reason_and_goes_to_no_sink(
    store: SqliteStore, body: bytes, reason: str
) -> None:
    bad, good = Uplink(TOPIC, body), uplink("a", log("well"))
    with store.write() as tx:
        outcome = commit.apply(tx, reduce([bad, good, uplink("a", status(1))]), 5_000)
    assert outcome.refused_logs == [bad]
    assert outcome.refused == 1
    assert rows(store, "SELECT reason FROM quarantine") == [{"reason": reason}]


@pytest.mark.parametrize(
    ("setup", "reason"),
    [
        pytest.param("DELETE FROM devices WHERE device_id = 'a'", "unknown_device", id="unknown"),
        pytest.param("UPDATE devices SET revoked_at = 1 WHERE device_id = 'a'", "revoked", id="revoked"),
    ],
)
def test_lines_of_a_device_that_is_none_of_ours_go_to_no_sink(
    store: SqliteStore, setup: str, reason: str
) -> None:
    foreign, own = uplink("a", log("x")), uplink("b", log("y"))
    with store.write() as tx:
        tx.execute(setup)
        outcome = commit.apply(tx, reduce([foreign, own]), 5_000)
    assert outcome.refused_logs == [foreign]
    assert outcome.devices == set()
    assert rows(store, "SELECT reason FROM quarantine") == [{"reason": reason}]


def test_a_device_that_logs_in_a_loop_does_not_push_out_the_others() -> None:
    def line(kind: str, device: str, number: int) -> Line:
        return (kind, device, b"%d" % number, codec.JSON, 0)

    flood = [line("log", "a", n) for n in range(100)]
    quiet = [line("log", "b", 0), *[line("status", "a", n) for n in range(20)]]
    kept = without_floods([*flood, *quiet])
    assert kept == [*flood[:LOGS_A_BATCH], *quiet]


def test_what_is_left_out_of_a_flood_is_counted_as_lost(tmp_path: Path) -> None:
    sink = Ndjson(tmp_path, now=now_ms)
    Lines([sink]).extend([("log", "a", b"{}", codec.JSON, 0)] * 20)
    assert (sink.queued, sink.dropped["overflow"]) == (LOGS_A_BATCH, 20 - LOGS_A_BATCH)
