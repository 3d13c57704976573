"""The log in a service: JSON lines whose ids lead from a request to the event it made, and back."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from hub.leader import Leader
from hub.logs import configure
from tests.hub.world import World


class Log:
    """Standard error of a service."""

    def __init__(self) -> None:
        self.file = io.StringIO()

    def lines(self) -> list[dict[str, Any]]:
        """What was written since the last call."""
        written = self.file.getvalue()
        self.file.truncate(0)
        self.file.seek(0)
        return [json.loads(line) for line in written.splitlines()]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    made = Log()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", made.file)
        configure(terminal=False)
    yield made
    structlog.reset_defaults()


def test_a_request_that_changes_a_release_is_found_from_its_event_and_back(world: World, log: Log) -> None:
    release = world.publish(1)
    leader = Leader(world.store, world.deployment, world.watch, lambda: world.observed_since)
    leader.look()
    log.lines()

    answer = world.promote(release, "canary")
    leader.look()
    request, event = log.lines()
    assert request.items() >= {
        "event": "request",
        "logger": "hub.http",
        "request": answer.headers["x-request-id"],
        "actor": "admin",
        "release": release,
        "status": 200,
    }.items()  # fmt: skip
    assert event.items() >= {
        "event": "release.promoted",
        "logger": "hub.leader",
        "request": answer.headers["x-request-id"],
        "actor": "admin",
        "release": release,
    }.items()  # fmt: skip
    with world.store.read() as tx:
        row = tx.one("SELECT n FROM events WHERE kind = 'release.promoted'")
    assert row is not None and event["event_n"] == row["n"]


def test_a_request_about_a_device_names_it_and_so_does_its_event(world: World, log: Log) -> None:
    world.device("shop-1")
    leader = Leader(world.store, world.deployment, world.watch, lambda: world.observed_since)
    leader.look()
    log.lines()
    answer = world.client.patch("/devices/shop-1", json={"maintenance": True})
    assert answer.status_code == 200
    leader.look()
    request, event = log.lines()
    assert request["device"] == event["device"] == "shop-1"
    assert request["request"] == event["request"] == answer.headers["x-request-id"]


def test_a_rule_that_changes_a_release_logs_the_event_with_its_name(world: World, log: Log) -> None:
    release = world.publish(1)
    world.promote(release, "canary")
    world.result(world.device("shop-1"), release, "failed")
    log.lines()
    Leader(world.store, world.deployment, world.watch, lambda: world.observed_since).look()
    (event,) = [line for line in log.lines() if line["event"] == "release.halted"]
    assert event["release"] == release and event["actor"].startswith("rule:") and "request" not in event


def test_a_failure_is_logged_under_the_id_that_the_caller_was_told(
    world: World, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_words: Any, **_named: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(world.deployment, "promote", broken)
    answer = world.promote("kiosk-1-aaaaaaaaaaaa", "canary")
    assert answer.status_code == 500
    failed, request = log.lines()
    assert failed["level"] == "error" and "ZeroDivisionError" in failed["exception"]
    assert failed["request"] == request["request"] == answer.json()["request_id"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_fault_is_logged_with_its_place_and_without_the_values_of_variables(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    def fail(key: str) -> None:
        raise RuntimeError("out of order")

    file = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", file)
        configure(terminal=terminal)
        try:
            fail("fhkey" + "_secret")
        except RuntimeError:
            structlog.get_logger("hub").exception("request failed")
    structlog.reset_defaults()
    assert "out of order" in file.getvalue() and "in fail" in file.getvalue()
    assert "fhkey_secret" not in file.getvalue()


def test_nothing_that_a_stranger_sent_moves_a_terminals_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    """`GET /%1b[2J` once cleared the screen of whoever watched the hub."""
    file = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", file)
        configure(terminal=True)
    structlog.get_logger("hub.http").info("request \x1b[2J", path="/\x1b[2J\r\x9b1A\u202ebücher")
    structlog.reset_defaults()
    ours = re.sub(r"\x1b\[\d*m", "", file.getvalue())
    assert ours.rstrip("\n").isprintable()
    assert r"path=/\x1b[2J\r\x9b1A\u202ebücher" in ours
