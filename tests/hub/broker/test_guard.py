"""A device that listens where it may not is put out, and it is written down."""

from __future__ import annotations

import time
from pathlib import Path

from hub.broker.guard import put_out
from hub.store import SqliteStore
from tests.support.mosquitto import FLEET, Broker


def test_an_intruder_loses_its_session_and_an_event_says_why(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "hub.db")
    with Broker(tmp_path) as broker, broker.device("shop-1") as device:
        filter_ = f"$share/guess/{FLEET}/v1/devices/+/up/status"
        device.subscribe(filter_)
        put_out(
            store,
            broker.authorities,
            broker.device_port,
            "shop-1",
            filter_,
            lambda: time.time_ns() // 1_000_000,
        )
        assert device.disconnected.wait(10)
    with store.read() as tx:
        row = tx.one("SELECT kind, device_id, actor, reason FROM events")
        assert row is not None
        assert tuple(row[key] for key in ("kind", "device_id", "actor")) == (
            "device.evicted",
            "shop-1",
            "rule:subscriptions",
        )
        assert filter_ in row["reason"]
    store.close()
