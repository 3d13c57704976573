"""Devices in networks that let no MQTT through: they live on HTTPS, with a real hub at the other end."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.config import Paths
from edge.identity import identity
from edge.identity.identity import Identity
from edge.polling import notes
from hub.identity.ca import open_authorities
from tests.e2e.fleet import Agent, Fleet, until
from tests.support.ports import held_port
from tests.support.relay import Proxy, Relay

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

HUB = "hub.field.test"


def place(agent: Agent, *, mqtt_port: int | None = None, url: str | None = None) -> None:
    """Let a device know the broker and the hub by other addresses than those it was enrolled with."""
    paths = Paths(agent.state)
    known = Identity(paths)
    device = msgspec.structs.replace(
        known.device,
        mqtt_port=mqtt_port or known.device.mqtt_port,
        http_url=url or known.device.http_url,
    )
    identity.write(
        paths,
        device,
        seed=bytes(known.key),
        certificate_pem=(known.folder / "cert.pem").read_text(),
        ca_pem=(known.folder / "ca.pem").read_text(),
        unique=identity.unique(),
    )


def quick(monkeypatch: pytest.MonkeyPatch, **settings: float | str) -> None:
    defaults = {"backoff_base_seconds": 0.05, "backoff_cap_seconds": 0.3, "fallback_seconds": 0.1}
    for name, value in (defaults | settings).items():
        monkeypatch.setenv(f"FLAGHOIST_EDGE_{name.upper()}", str(value))


def presence(fleet: Fleet, device_id: str) -> str:
    return str(fleet.get(f"/devices/{device_id}").get("presence"))


def results(fleet: Fleet, device_id: str) -> list[tuple[str, str]]:
    """What the hub stored of a device's updates, oldest first."""
    reports: list[dict[str, Any]] = fleet.get(f"/telemetry/devices/{device_id}")["reports"]
    found = [report for report in reports if report["kind"] == "update-result"]
    return [(each["release"], each["state"]) for each in reversed(found)]


def test_a_device_whose_broker_is_blocked_converges_over_https_and_goes_back_to_mqtt(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also: the answer to a report is lost on the way, and the report counts once all the same."""
    quick(monkeypatch, mqtt_retry_seconds=2)
    lost: list[bytes] = []

    def loses(data: bytes) -> bool:
        if lost or b"POST /telemetry/update-results" not in data:
            return False
        lost.append(data)
        return True

    agent, port = fleet.enrol("shop-1", "canary"), held_port()
    log = fleet.folder / "shop-1.log"
    with Relay(fleet.http_port, loses=loses) as way:
        place(agent, mqtt_port=port, url=f"http://127.0.0.1:{way.port}")
        fleet.start(agent)
        until("the device online", lambda: presence(fleet, "shop-1") == "online")
        first = fleet.publish("kiosk", 1)
        fleet.flaghoist("release", "promote", first, "--segment", "canary")
        until("the update over HTTPS", lambda: fleet.progress(first, "canary").get("committed") == 1)
        assert lost, "the answer to the first report of the update was swallowed"
        assert "connected over MQTT" not in log.read_text()
        with Relay(fleet.mqtt_port, port=port):
            until("MQTT again", lambda: "connected over MQTT" in log.read_text())
            second = fleet.publish("kiosk", 2)
            fleet.flaghoist("release", "promote", second, "--segment", "canary")
            until("the update over MQTT", lambda: fleet.progress(second, "canary").get("committed") == 1)
            fleet.stop(agent)
    assert results(fleet, "shop-1") == [
        (release, state) for release in (first, second) for state in ("downloading", "committed")
    ]
    assert fleet.get("/telemetry/quarantine")["counts"] == {}
    assert notes.read(Paths(agent.state)).way == "mqtt"


def test_once_finds_the_way_over_https_and_remembers_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in the broker's place takes the connection and never answers."""
    quick(monkeypatch)
    agent = fleet.enrol("shop-1", "canary")
    first = fleet.publish("kiosk", 1)
    fleet.flaghoist("release", "promote", first, "--segment", "canary")
    with socket.create_server(("127.0.0.1", 0)) as broker:
        place(agent, mqtt_port=broker.getsockname()[1])
        fleet.edge(agent, "once")
        assert agent.current == first
        assert results(fleet, "shop-1")[-1] == (first, "committed")
        assert presence(fleet, "shop-1") == "sleeping"
        assert json.loads(fleet.edge(agent, "status", "--json"))["reports_waiting"] == 0
        began = time.monotonic()
        fleet.edge(agent, "once")
        print(f"once over HTTPS, with nothing to do: {time.monotonic() - began:.2f} s")
        broker.setblocking(False)
        tried = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                broker.accept()[0].close()
                tried += 1
        assert tried == 1, "the second time it went over HTTPS at once"


def test_a_device_behind_a_proxy_lives_on_https_and_hears_that_it_was_revoked(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the proxy knows the way; the hub's certificate is of its own CA. What an idle day costs is printed."""
    quick(monkeypatch, transport="https", heartbeat_seconds=3)
    authority = open_authorities(fleet.data / "ca", fleet.name, now=int(time.time())).device
    key, certificate = authority.issue_server([HUB], now=int(time.time()))
    (tmp_path / "server.pem").write_text(key + certificate)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem")
    agent = fleet.enrol("shop-1", "canary")
    place(agent, mqtt_port=held_port(), url=f"https://{HUB}")
    with (
        Relay(fleet.http_port, tls=tls) as front,
        Relay(front.port) as line,
        Proxy({HUB: line.port}) as proxy,
    ):
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        fleet.start(agent)
        first = fleet.publish("kiosk", 1)
        fleet.flaghoist("release", "promote", first, "--segment", "canary")
        until("the update", lambda: fleet.progress(first, "canary").get("committed") == 1)
        polls = line.connections + 2
        until("a poll of an idle device", lambda: line.connections >= polls)
        before = line.carried
        until("three polls more", lambda: line.connections >= polls + 3)
        each = (line.carried - before) / 3
        print(f"idle over HTTPS: {each:.0f} bytes a poll, {each * 288 / 1000:.0f} KB a day at five minutes")
        assert set(proxy.asked) == {proxy.asked[0]} and proxy.asked[0].startswith(f"CONNECT {HUB}:443 ")
        fleet.flaghoist("device", "revoke", "shop-1")
        told = "not connected: the hub refuses this device: The device is unknown or revoked"
        until("the refusal told", lambda: told in (fleet.folder / "shop-1.log").read_text())
        fleet.stop(agent)
        said = fleet.edge(agent, "once", expect=4)
        assert said.splitlines()[-1] == (
            "flaghoist-edge: the hub refuses this device: The device is unknown or revoked; "
            "run flaghoist-edge diagnose to see why"
        )


def test_orders_reach_a_device_without_mqtt_are_carried_out_and_answered(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put right what drifted, into safe mode, diagnostics from there, and out of it by a redeploy."""
    quick(monkeypatch, transport="https", heartbeat_seconds=0.5)
    agent = fleet.enrol("shop-1", "canary")
    place(agent, mqtt_port=held_port())
    fleet.start(agent)
    first = fleet.publish("kiosk", 1)
    fleet.flaghoist("release", "promote", first, "--segment", "canary")
    until("the update", lambda: fleet.progress(first, "canary").get("committed") == 1)

    def carried_out(command: dict[str, Any]) -> None:
        place = f"/devices/shop-1/commands/{command['id']}"
        until(f"{command['kind']} done", lambda: fleet.get(place).get("state") == "done")

    def seen() -> dict[str, Any]:
        found: dict[str, Any] = fleet.get("/recovery/shop-1")
        return found

    released = next(
        path for path in sorted((agent.state / "releases" / first / "files").rglob("*")) if path.is_file()
    )
    signed = released.read_bytes()
    released.write_bytes(b"rotten")
    carried_out(fleet.post("/recovery/shop-1/repair", {"reason": "it drifted"}))
    until("the file as it was signed", lambda: released.read_bytes() == signed)
    until("its report", lambda: ("drift", first) in reported(fleet, "shop-1"))

    fleet.post("/recovery/shop-1/enter", {"reason": "a look"})
    until("safe mode", lambda: seen()["in_safe_mode"])
    until("the mark of safe mode on the device", (agent.state / "run" / "safe-mode").exists)
    until("its diagnostics", lambda: seen()["diagnostics"])
    carried_out(fleet.post("/recovery/shop-1/redeploy", {"reason": "go on"}))
    until("the end of safe mode", lambda: not seen()["in_safe_mode"])
    until("the service", lambda: agent.health().get("release") == first)
    assert ("recovery", first) in reported(fleet, "shop-1")
    assert "connected over MQTT" not in (fleet.folder / "shop-1.log").read_text()
    assert fleet.get("/telemetry/quarantine")["counts"] == {}


def reported(fleet: Fleet, device_id: str) -> set[tuple[str, str]]:
    """Kinds of a device's reports, with the release that they are about."""
    reports = fleet.get(f"/telemetry/devices/{device_id}")["reports"]
    return {(report["kind"], report.get("release", "")) for report in reports}
