"""A real device's day, as its timeline tells it."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests.e2e.fleet import Fleet, until

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]


def test_a_devices_day_is_told_from_its_registration_to_its_silence(fleet: Fleet) -> None:
    def told(*options: str) -> list[dict[str, Any]]:
        """Oldest first."""
        found: list[dict[str, Any]] = json.loads(
            fleet.flaghoist("device", "timeline", "shop-1", "--json", *options)
        )
        return found[::-1]

    def presence(state: str, reason: str) -> bool:
        entry = told("--kind", "presence", "--limit", "1")
        return bool(entry) and (entry[0]["detail"]["state"], entry[0]["detail"]["reason"]) == (state, reason)

    agent = fleet.enrol("shop-1", "canary")
    fleet.start(agent)
    until("the device online", lambda: presence("online", "connected"))
    release = fleet.publish("kiosk", 1)
    fleet.flaghoist("release", "promote", release, "--segment", "canary")
    until(
        "the update done",
        lambda: any(
            item["detail"]["state"] == "committed"
            for item in told("--kind", "update-result", "--limit", "500")
        ),
        seconds=90,
    )
    assert agent.process is not None
    agent.process.send_signal(signal.SIGSTOP)
    try:
        until("missed heartbeats", lambda: presence("offline", "missed_heartbeats"), seconds=90)
    finally:
        agent.process.send_signal(signal.SIGCONT)
    until(
        "the device back",
        lambda: told("--kind", "presence", "--limit", "1")[0]["detail"]["state"] == "online",
    )
    agent.process.kill()
    agent.process.wait()
    until("the last will", lambda: presence("offline", "will"))

    everything = told("--limit", "500")
    assert [item["at"] for item in everything] == sorted(item["at"] for item in everything)
    kinds = [item["kind"] for item in everything]
    assert {"audit", "presence", "release", "update-result", "status"} <= set(kinds)
    texts = [item["text"] for item in everything]
    first, promoted = texts.index("online"), texts.index(f"{release} promoted")
    committed = texts.index(f"committed {release} (attempt 1)")
    missed, lost = (
        texts.index("offline: it missed its heartbeats"),
        texts.index("offline: its connection broke"),
    )
    assert first < promoted < committed < missed < lost
    events = until(
        "events about it",
        lambda: [
            row
            for row in fleet.get("/devices/shop-1/timeline?kind=audit")["items"]
            if row["detail"]["n"] is not None
        ],
    )
    assert [row["detail"]["event"] for row in events] == ["device.registered"]
    ups = fleet.get("/telemetry/devices/shop-1/rollups?tier=5m")["items"]
    assert sum(item["heartbeats"] for item in ups) > 0
