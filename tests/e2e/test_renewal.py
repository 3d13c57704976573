"""Certificates that end are renewed by the device itself, over a real hub and broker."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from edge.config import Paths
from edge.identity import identity, renewal
from edge.identity.identity import Identity
from hub.identity.ca import Authority, open_authorities
from tests.e2e.fleet import Agent, Fleet, until
from tests.support.tls import is_refused

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
        fleet.enrol(name, "canary", transport="mqtt", backoff_cap_seconds=1.0, retry_base_seconds=0.1)
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
    until("its way to the new one", lambda: "connecting with them" in (fleet.folder / "aged.log").read_text())
    until("the refusal of a revoked one", lambda: renewal.read(Paths(revoked.state)).problem)
    assert held(revoked.state) == lost
    assert "unknown or revoked" in renewal.read(Paths(revoked.state)).problem


def held(state: Path) -> str:
    return (state / "identity" / "cert.pem").read_text()


@pytest.mark.heavy
def test_a_new_ca_reaches_a_running_device_and_one_that_slept_through_it_comes_back(fleet: Fleet) -> None:
    running, asleep = (
        fleet.enrol(name, "canary", transport="mqtt", backoff_cap_seconds=1.0, retry_base_seconds=0.1)
        for name in ("running", "asleep")
    )
    fleet.start(running)
    until("the device online", lambda: online(fleet, running))
    fleet.flaghoist("ca", "announce")
    until("both CAs on the device", lambda: len(cas(running)) == 2)
    until("its word that it knows both", lambda: fleet.get("/trust/ca").get("waiting") == 1)
    fleet.flaghoist("ca", "switch", expect=1)
    fleet.flaghoist("ca", "switch", "--leave-behind")
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

    thief = stolen(fleet, "running")
    assert not is_refused(thief, fleet.mqtt_port), (
        "whoever has the key of a CA that is believed is any device"
    )
    fleet.flaghoist("ca", "retire")
    until("the old CA gone from the broker", lambda: refused_by(fleet, thief))
    until("the new CA alone on both", lambda: len(cas(running)) == len(cas(asleep)) == 1)
    for agent in (running, asleep):
        until(f"{agent.device_id} online again", lambda agent=agent: online(fleet, agent))  # type: ignore[misc]


def stolen(fleet: Fleet, device_id: str) -> ssl.SSLContext:
    """What somebody shows who took the key of the first CA."""
    ca = fleet.data / "ca"
    first = Authority(
        x509.load_pem_x509_certificate((ca / "device-ca.pem").read_bytes()),
        cast(Ed25519PrivateKey, load_pem_private_key((ca / "device-ca.key").read_bytes(), None)),
    )
    place = fleet.folder / "thief.pem"
    place.write_text("".join(first.issue_service(device_id, now=int(time.time()))))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(place)
    return context


def refused_by(fleet: Fleet, context: ssl.SSLContext) -> bool:
    """Whether the broker is there, and refuses what is shown."""
    try:
        return is_refused(context, fleet.mqtt_port)
    except OSError:
        return False


def cas(agent: Agent) -> tuple[str, ...]:
    return renewal.held(Paths(agent.state).identity).cas
