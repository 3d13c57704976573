"""A technician with a stick brings a device on and back while the hub is off; the hub's record is right afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fleet import Agent, Fleet, until


def release(fleet: Fleet, sequence: int) -> str:
    (fleet.repo / "roles" / "kiosk" / "files" / "note.txt").write_text(f"release {sequence}\n")
    fleet.commit(f"release {sequence}")
    return fleet.publish("kiosk", sequence)


def reported(fleet: Fleet, agent: Agent) -> list[tuple[str, str]]:
    """Return state and release of every update result that the hub has of a device, oldest first."""
    rows: list[dict[str, Any]] = fleet.get(f"/telemetry/devices/{agent.device_id}")["reports"]
    results = [row for row in rows if row["kind"] == "update-result"]
    return sorted((row["state"], row["release"]) for row in results)


@pytest.mark.heavy
def test_a_stick_brings_a_device_on_and_the_hub_hears_of_it_later(fleet: Fleet, tmp_path: Path) -> None:
    agent = fleet.enrol("shop-1", "canary")
    first, second = release(fleet, 1), release(fleet, 2)
    sticks = {}
    for name in (first, second):
        sticks[name] = tmp_path / f"{name}.flag"
        fleet.flaghoist("release", "export-file", name, sticks[name])
    fleet.kill_hub()

    for name in (first, second):
        assert f"{name} (version" in fleet.edge(agent, "install", str(sticks[name]))
        assert agent.current == name
        until("the service", lambda n=name: agent.health().get("release") == n)  # type: ignore[misc]
    assert f"{first} (version" in fleet.edge(agent, "rollback")
    until("the service before", lambda: agent.health().get("release") == first)
    said = json.loads(fleet.edge(agent, "status", "--json"))
    assert (said["running"], said["failed"]) == (first, [second])
    # Each of the three orders has begun and ended.
    assert said["reports_waiting"] == 6

    fleet.start_hub()
    fleet.start(agent)
    until("all reports", lambda: len(reported(fleet, agent)) == 6)
    expected = [(state, name) for name in (first, second, first) for state in ("committed", "downloading")]
    assert reported(fleet, agent) == sorted(expected)
    until("the hub's record", lambda: fleet.get("/devices/shop-1")["running"] == first)

    # The hub's wish for what was put back is not obeyed, and shows as such.
    fleet.flaghoist("release", "promote", second, "--segment", "canary")
    until("the verdict", lambda: _verdict(fleet) == "failed_here_before")
    assert agent.current == first
    assert "another flaghoist-edge works" in fleet.edge(agent, "install", str(sticks[second]), expect=3)


def _verdict(fleet: Fleet) -> str:
    verdict: dict[str, Any] | None = fleet.get("/devices/shop-1")["verdict"]
    return verdict["reason"] if verdict else ""
