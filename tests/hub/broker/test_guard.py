"""A device that listens where it may not is put out, and it is written down; one that goes on is no burden."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hub.broker import guard as guarding
from hub.broker.abuse.subscriptions import MOST, WINDOW_S, Subscriptions
from hub.broker.guard import TELL_MS, Guard
from hub.identity.ca import open_authorities
from hub.store import SqliteStore
from tests.support.mosquitto import FLEET, Broker, wait_until
from tests.support.uplinks import rows

WHY = f"subscribed to $share/guess/{FLEET}/v1/devices/+/up/status"


def test_an_intruder_loses_its_session_and_an_event_says_why(tmp_path: Path) -> None:
    with (
        closing(SqliteStore(tmp_path / "hub.db")) as store,
        Broker(tmp_path) as broker,
        broker.device("shop-1") as device,
    ):
        guard = Guard(store, broker.authorities, lambda: time.time_ns() // 1_000_000)
        guard.offended("shop-1", WHY, broker.device_port)
        assert device.disconnected.wait(60)
        guard.stop()
        found = rows(store, "SELECT kind, device_id, actor, reason FROM events")
    assert found == [
        {"kind": "device.evicted", "device_id": "shop-1", "actor": "rule:subscriptions", "reason": WHY}
    ]


def test_whoever_offends_while_put_out_is_put_out_once_more_and_told_of_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on, clock = threading.Semaphore(0), threading.Semaphore(0), [1_000_000]
    evicted: list[str] = []

    def evict(_authorities: Any, client: str, **_options: Any) -> None:
        began.release()
        assert go_on.acquire(timeout=60)
        evicted.append(client)

    monkeypatch.setattr(guarding, "evict", evict)
    with closing(SqliteStore(tmp_path / "hub.db")) as store:
        guard = Guard(store, open_authorities(tmp_path / "ca", FLEET, now=1), lambda: clock[0])
        guard.offended("shop-1", "first", 1)
        assert began.acquire(timeout=60)
        for number in range(2_000):
            guard.offended("shop-1", f"again {number}", 1)
        go_on.release(2)
        wait_until(lambda: len(evicted) == 2)
        clock[0] += TELL_MS
        guard.offended("shop-1", "a minute later", 1)
        go_on.release()
        wait_until(lambda: len(evicted) == 3)
        guard.stop()
        told = [row["reason"] for row in rows(store, "SELECT reason FROM events ORDER BY id")]
    assert told == ["first", "a minute later"]


def test_a_guard_that_failed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = itertools.chain([OSError("away"), RuntimeError("a fault of ours")], itertools.repeat(None))
    evicted: list[str] = []

    def evict(_authorities: Any, client: str, **_options: Any) -> None:
        if error := next(answers):
            raise error
        evicted.append(client)

    monkeypatch.setattr(guarding, "evict", evict)
    with closing(SqliteStore(tmp_path / "hub.db")) as store:
        guard = Guard(store, open_authorities(tmp_path / "ca", FLEET, now=1), lambda: 1)

        def offend() -> bool:
            guard.offended("shop-1", "why", 1)
            return bool(evicted)

        wait_until(offend)
        guard.stop()


OWN = f"{FLEET}/v1/devices/shop-1/down/desired"


@pytest.mark.parametrize(
    ("client", "topic_filter", "times", "last"),
    [
        pytest.param("shop-1", "#", [0.0], "subscribed to #", id="where it may not, at once"),
        pytest.param("shop-1", OWN, [0.0] * MOST, None, id="as often as it may"),
        pytest.param(
            "shop-1", OWN, [0.0] * (MOST + 1), f"subscribed more than {MOST} times within a minute", id="once more"
        ),
        pytest.param("shop-1", OWN, [*[0.0] * MOST, WINDOW_S], None, id="once more in the next minute"),
        pytest.param("svc.hoister", "#", [0.0] * (MOST + 1), None, id="the hub itself"),
    ],
)  # fmt: skip
def test_why_a_client_is_put_out(
    client: str, topic_filter: str, times: list[float], last: str | None
) -> None:
    subscriptions = Subscriptions(FLEET)
    answers = [subscriptions.offence(client, topic_filter, at) for at in times]
    assert answers[-1] == last
    assert set(answers[:-1]) <= {None}


def test_a_client_without_a_good_certificate_is_put_out_wherever_it_subscribes() -> None:
    subscriptions = Subscriptions(FLEET, {"fallen"}.__contains__)
    assert subscriptions.offence("shop-1", OWN, 0.0) is None
    own = f"{FLEET}/v1/devices/fallen/down/desired"
    assert subscriptions.offence("fallen", own, 0.0) == "subscribed though its certificate was withdrawn"
