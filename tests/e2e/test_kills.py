"""SIGKILL of the hub and of Mosquitto: after the restart the rollout finishes with no help."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from tests.e2e.fleet import Fleet, until


@pytest.mark.heavy
def test_a_rollout_survives_the_hub_killed_before_it_and_mosquitto_killed_within_it(fleet: Fleet) -> None:
    agents = [
        fleet.enrol("shop-1", "canary"),
        fleet.enrol("shop-2", "early"),
        fleet.enrol("shop-3", "general"),
    ]
    for agent in agents:
        fleet.start(agent)
    release = fleet.publish("kiosk", 1)

    orphan = fleet.broker_pid()
    fleet.kill_hub()
    until("Mosquitto ending with its hub", lambda: not psutil.pid_exists(orphan), seconds=60)
    fleet.start_hub()

    for agent in agents:
        fleet.flaghoist("release", "promote", release, "--segment", agent.segment)
        if agent.segment == "early":
            until("an update under way", lambda a=agent: a.holds(release))  # type: ignore[misc]
            os.kill(fleet.broker_pid(), signal.SIGKILL)
        until(
            f"{agent.device_id} committed",
            lambda a=agent: fleet.progress(release, a.segment).get("committed") == 1,  # type: ignore[misc]
            seconds=60,
        )
        assert agent.current == release and agent.health()["release"] == release
    until("a complete rollout", lambda: fleet.get(f"/releases/{release}").get("state") == "complete")
    for agent in agents:
        results = [
            row["state"]
            for row in fleet.get(f"/telemetry/devices/{agent.device_id}")["reports"]
            if row["kind"] == "update-result"
        ]
        assert results.count("committed") == 1, (
            f"{agent.device_id} reported its success {results.count('committed')} times"
        )
