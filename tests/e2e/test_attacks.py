"""Documents that must not take effect, put on the real broker with the hub's own credentials, before real agents."""

from __future__ import annotations

import urllib.request

import msgspec
from nacl.signing import SigningKey

from hub.identity import keys
from tests.e2e.broker import publish_as_hoister
from tests.e2e.fleet import Agent, Fleet, until
from topics import codec, envelope
from topics.channels import DESIRED, MANIFEST
from topics.documents import Manifest, Release
from topics.envelope import open_envelope


def test_no_forged_document_moves_an_agent_and_each_is_reported_by_the_check_that_refused(
    fleet: Fleet,
) -> None:
    canary, early = fleet.enrol("shop-1", "canary"), fleet.enrol("shop-2", "early")
    for agent in (canary, early):
        fleet.start(agent)
    offered = fleet.publish("kiosk", 1)
    topic = MANIFEST.topic(fleet.name, role="kiosk", segment="canary")
    older = _raw(fleet, "/manifests/kiosk/canary")
    fleet.flaghoist("release", "promote", offered, "--segment", "canary")
    until("release one on the canary", lambda: canary.current == offered)
    until("its commit at the hub", lambda: fleet.progress(offered, "canary").get("committed") == 1)
    genuine = _raw(fleet, "/manifests/kiosk/canary")
    deployment = keys.load_private(fleet.data / "keys" / "deployment.key")

    forged = {
        "deployment_threshold": (topic, _resign(genuine, SigningKey.generate())),
        "replayed": (topic, older),
        "addressee": (topic, _raw(fleet, "/manifests/kiosk/early")),
        "release_threshold": (topic, _with_stranger_release(genuine, deployment)),
    }
    for check, (where, payload) in forged.items():
        publish_as_hoister(fleet, where, payload)
        until(f"a report of {check}", lambda c=check: c in _refusals(fleet, canary))  # type: ignore[misc]
    own = DESIRED.topic(fleet.name, id="shop-1")
    before = len(_refused(fleet, canary))
    publish_as_hoister(fleet, own, _raw(fleet, "/devices/shop-2/desired"))
    until("a report of another's desired state", lambda: len(_refused(fleet, canary)) > before)
    assert _refused(fleet, canary)[0]["check"] == "addressee" and _refused(fleet, canary)[0]["topic"] == own

    assert canary.current == offered and canary.health()["release"] == offered
    assert early.current is None
    until("the genuine manifest back on the broker", lambda: fleet.get("/health/ready").get("ready"))
    shown = fleet.get("/devices/shop-1")
    assert shown["running"] == offered
    until("the raw reports in the hub's files", lambda: "addressee" in _lines(fleet))


def _lines(fleet: Fleet) -> str:
    return "".join(path.read_text() for path in sorted((fleet.data / "lines").rglob("*.ndjson")))


def _raw(fleet: Fleet, path: str) -> bytes:
    token = fleet.environment["FLAGHOIST_TOKEN"]
    request = urllib.request.Request(fleet.url + path, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        data: bytes = answer.read()
        return data


def _resign(data: bytes, key: SigningKey) -> bytes:
    """The same manifest, a little newer, by another key."""
    manifest = msgspec.msgpack.decode(open_envelope(data, limit=1 << 16).payload, type=Manifest)
    newer = msgspec.structs.replace(manifest, issued_at=manifest.issued_at + 1)
    return envelope.sign(codec.encode(newer), "manifest", [key])


def _with_stranger_release(data: bytes, deployment: SigningKey) -> bytes:
    """A manifest that the hub's real deployment key signed, with a release that no release key ever saw."""
    manifest = msgspec.msgpack.decode(open_envelope(data, limit=1 << 16).payload, type=Manifest)
    assert manifest.candidate is not None
    release = msgspec.msgpack.decode(open_envelope(manifest.candidate, limit=1 << 16).payload, type=Release)
    evil = msgspec.structs.replace(release, id="kiosk-9-eeeeeeeeeeee", sequence=9)
    signed = envelope.sign(codec.encode(evil), "release", [SigningKey.generate()])
    newer = msgspec.structs.replace(manifest, issued_at=manifest.issued_at + 2, candidate=signed)
    return envelope.sign(codec.encode(newer), "manifest", [deployment])


def _refused(fleet: Fleet, agent: Agent) -> list[dict[str, str]]:
    reports = fleet.get(f"/telemetry/devices/{agent.device_id}").get("reports", [])
    return [row for row in reports if row.get("state") == "refused" and row.get("reason") == "untrusted"]


def _refusals(fleet: Fleet, agent: Agent) -> set[str]:
    return {row["check"] for row in _refused(fleet, agent)}
