"""Certificates that end are renewed by the device itself, over a real hub and broker."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge.config import Paths
from edge.identity import identity, renewal
from edge.identity.identity import Identity
from hub.identity.ca import open_authorities
from tests.e2e.fleet import Agent, Fleet, until

DAY_S = 86_400


def grow_old(fleet: Fleet, agent: Agent, *, days_left: int) -> str:
    """Give a device the certificate that it would hold after a year; return it."""
    paths = Paths(agent.state)
    who = Identity(paths)
    authority = open_authorities(fleet.data / "ca", fleet.name, now=int(time.time())).device
    began = int(time.time()) - (397 - days_left) * DAY_S
    old = authority.issue_device(bytes(who.key.verify_key), agent.device_id, now=began)
    ca = (paths.identity / "ca.pem").read_text()
    identity.write(paths, who.device, seed=bytes(who.key), certificate_pem=old, ca_pem=ca, unique="old")
    return old


def online(fleet: Fleet, agent: Agent) -> bool:
    return bool(fleet.get(f"/devices/{agent.device_id}").get("presence") == "online")


@pytest.mark.heavy
def test_devices_renew_in_time_and_after_their_certificates_end_and_are_connected_with_the_new_ones(
    fleet: Fleet,
) -> None:
    aged, asleep, revoked = (
        fleet.enrol(name, "canary", transport="mqtt", backoff_cap_seconds=1.0)
        for name in ("aged", "asleep", "revoked")
    )
    given = {agent.device_id: held(agent.state) for agent in (aged, asleep, revoked)}
    grow_old(fleet, aged, days_left=30)
    grow_old(fleet, asleep, days_left=-20)
    lost = grow_old(fleet, revoked, days_left=-20)
    fleet.flaghoist("device", "revoke", "revoked")
    for agent in (aged, asleep, revoked):
        fleet.start(agent)
    # The hub's own is young enough: it is given again, as to a device that was restored from an old backup.
    until("a certificate renewed in time", lambda: held(aged.state) == given["aged"])
    until("one renewed after its end", lambda: held(asleep.state) == given["asleep"])
    for agent in (aged, asleep):
        until(f"{agent.device_id} connected", lambda agent=agent: online(fleet, agent))  # type: ignore[misc]
    assert "connecting with them" in (fleet.folder / "aged.log").read_text()
    until("the refusal of a revoked one", lambda: renewal.read(Paths(revoked.state)).problem)
    assert held(revoked.state) == lost
    assert "unknown or revoked" in renewal.read(Paths(revoked.state)).problem


def held(state: Path) -> str:
    return (state / "identity" / "cert.pem").read_text()


@pytest.mark.heavy
def test_a_new_ca_reaches_a_running_device_and_one_that_slept_through_it_comes_back(fleet: Fleet) -> None:
    running, asleep = (
        fleet.enrol(name, "canary", transport="mqtt", backoff_cap_seconds=1.0)
        for name in ("running", "asleep")
    )
    fleet.start(running)
    until("the device online", lambda: online(fleet, running))
    fleet.flaghoist("ca", "rotate")
    until("both CAs on the device", lambda: len(cas(running)) == 2)
    until("its word that it knows both", lambda: fleet.get("/trust/ca").get("waiting") == 1)
    fleet.flaghoist("ca", "rotate", expect=1)
    fleet.flaghoist("ca", "rotate", "--leave-behind")
    before = len((fleet.folder / "running.log").read_text())
    fleet.stop(running)
    fleet.start(running)
    until(
        "the device connected anew",
        lambda: "connected over MQTT" in (fleet.folder / "running.log").read_text()[before:],
    )
    # It knows only a CA that the broker does not show: over HTTP its key is enough.
    assert len(cas(asleep)) == 1
    fleet.start(asleep)
    until("the sleeper with both CAs", lambda: len(cas(asleep)) == 2)
    until("the sleeper online", lambda: online(fleet, asleep))
    until("nobody who is missing", lambda: fleet.get("/trust/ca").get("waiting") == 0)
    shown = fleet.get("/trust/ca")
    assert shown["state"] == "switched" and {ca["sha256"] for ca in shown["trusted"]} == set(cas(asleep))


def cas(agent: Agent) -> tuple[str, ...]:
    return renewal.held(Paths(agent.state).identity).cas
