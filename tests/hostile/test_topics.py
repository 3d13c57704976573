"""Topics of others: a device cannot publish on them, cannot listen to them, and cannot leave a will on them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import mqtt5
import pytest

from tests.hostile.harbour import BAD, GOOD, PATIENCE, SPOOL, F, Harbour, topics_of
from tests.support.mosquitto import Peer, wait_until
from topics import codec
from topics.channels import BY_NAME, DESIRED, MANIFEST, PRESENCE, RECEIPT, STATUS, TRUST_ROOT, UPDATE_RESULT
from topics.messages import UpdateResult

pytestmark = pytest.mark.heavy

NOT_AUTHORISED = 0x87
FORGED = codec.encode(UpdateResult(boot=(9, "00000009"), at=9, spool=SPOOL, n=999_999, state="failed"))

PUBLISH = [
    pytest.param(STATUS.topic(F, id=GOOD), id="another's heartbeat"),
    pytest.param(UPDATE_RESULT.topic(F, id=GOOD), id="another's update result"),
    pytest.param(PRESENCE.topic(F, id=GOOD), id="another's presence"),
    pytest.param(DESIRED.topic(F, id=GOOD), id="another's desired state"),
    pytest.param(RECEIPT.topic(F, id=GOOD), id="another's receipt"),
    pytest.param(DESIRED.topic(F, id=BAD), id="its own desired state"),
    pytest.param(RECEIPT.topic(F, id=BAD), id="its own receipt"),
    pytest.param(MANIFEST.topic(F, role="kiosk", segment="canary"), id="a manifest"),
    pytest.param(TRUST_ROOT.topic(F), id="the root of trust"),
    pytest.param(BY_NAME["wake"].topic(F), id="the hub's own bus"),
    pytest.param(BY_NAME["summary-fleet"].topic(F), id="a summary"),
    pytest.param(BY_NAME["site-status"].topic(F, site="north", id=GOOD), id="another's heartbeat through a site"),
    pytest.param(STATUS.topic("acme", id=BAD), id="another fleet"),
    pytest.param(f"{F}/v1/devices/{BAD}/up/other", id="a report that does not exist"),
    pytest.param(f"{F}/v1/devices/{BAD}/up/status/more", id="a level more"),
    pytest.param(f"{F}/v1/devices/{BAD}/up/../../{GOOD}/up/status", id="a way out of its own"),
    pytest.param(f"{F}/v1/devices/{BAD.upper()}/up/status", id="its own name in capitals"),
    pytest.param("$SYS/broker/version", id="the broker's own"),
    pytest.param(f"$share/ingest/{STATUS.topic(F, id=GOOD)}", id="a share group"),
    pytest.param("a" * 65_000, id="a topic of 64 KB"),
    pytest.param("/" * 190, id="nothing but levels"),
]  # fmt: skip


@pytest.mark.parametrize("retain", [pytest.param(False, id="once"), pytest.param(True, id="retained")])
@pytest.mark.parametrize("topic", PUBLISH)
def test_it_cannot_publish_on(harbour: Harbour, topic: str, retain: bool) -> None:
    with harbour.unharmed(), harbour.peer(BAD) as bad:
        assert bad.publish(topic, FORGED, retain=retain) == NOT_AUTHORISED


SUBSCRIBE = [
    pytest.param("#", id="everything"),
    pytest.param("+/#", id="everything, in other words"),
    pytest.param("$SYS/#", id="the broker's own"),
    pytest.param(f"{F}/#", id="the whole fleet"),
    pytest.param(f"{F}/v1/releases/#", id="manifests by a wildcard of several levels"),
    pytest.param(STATUS.filter(F), id="everybody's heartbeats"),
    pytest.param(UPDATE_RESULT.filter(F, id=GOOD), id="another's results"),
    pytest.param(f"{F}/v1/devices/{GOOD}/#", id="all of another"),
    pytest.param(DESIRED.filter(F, id=GOOD), id="another's desired state"),
    pytest.param(DESIRED.filter(F), id="everybody's desired state"),
    pytest.param(RECEIPT.filter(F), id="everybody's receipts"),
    pytest.param(STATUS.filter(F, id=BAD), id="its own reports"),
    pytest.param(BY_NAME["wake"].topic(F), id="the hub's own bus"),
    pytest.param(f"{F}/v1/summary/#", id="summaries"),
    pytest.param(f"$share/guess/{UPDATE_RESULT.filter(F)}", id="reports through a share group"),
    pytest.param("$share/guess/#", id="everything through a share group"),
    pytest.param(f"$share/ingest/{TRUST_ROOT.topic(F)}", id="what it may read, through a share group"),
    pytest.param("+/" * 90 + "#", id="ninety levels of wildcards"),
    pytest.param("x" * 60_000, id="a filter of 60 KB"),
    pytest.param(f"x {GOOD} 1 all/#", id="a filter that looks like another's line in the log"),
]  # fmt: skip


READABLE = {
    TRUST_ROOT.topic(F),
    DESIRED.topic(F, id=BAD),
    RECEIPT.topic(F, id=BAD),
    *[MANIFEST.topic(F, role="kiosk", segment=segment) for segment in ("canary", "early", "general")],
}
"""What is for everybody, and for itself."""


@pytest.mark.parametrize("topic_filter", SUBSCRIBE)
def test_it_cannot_listen_to(harbour: Harbour, tmp_path: Path, topic_filter: str) -> None:
    """Mosquitto grants any subscription: nothing comes on it, and the hub ends the session and says why."""
    # Of one client the hub tells once a minute, so each row has its own.
    name = f"{BAD}-{hashlib.sha256(topic_filter.encode()).hexdigest()[:8]}"
    files = harbour.forged(tmp_path, name)
    with harbour.unharmed(), Peer(files, harbour.port, name, seconds=PATIENCE) as bad:
        bad.subscribe(topic_filter)
        harbour.report()
        assert bad.disconnected.wait(PATIENCE)
        assert topics_of(bad.messages) <= READABLE
    (why,) = wait_until(
        lambda: harbour.told("device.evicted", name), what="the eviction in the log of events"
    )
    assert why.startswith(f"subscribed to {topic_filter[:200]}")
    assert harbour.told("device.evicted", GOOD) == []


WILLS = [
    pytest.param(PRESENCE.topic(F, id=GOOD), id="another's presence"),
    pytest.param(UPDATE_RESULT.topic(F, id=GOOD), id="another's update result"),
    pytest.param(DESIRED.topic(F, id=GOOD), id="another's desired state"),
    pytest.param(MANIFEST.topic(F, role="kiosk", segment="canary"), id="a manifest"),
    pytest.param(TRUST_ROOT.topic(F), id="the root of trust"),
    pytest.param("$SYS/broker/version", id="the broker's own"),
]


@pytest.mark.parametrize("topic", WILLS)
def test_its_last_will_reaches_nobody_on(harbour: Harbour, topic: str) -> None:
    with harbour.unharmed():
        with harbour.peer(BAD, will=(topic, FORGED)) as bad:
            bad.drop()
        # Whoever takes the session over has the old one's will published first.
        harbour.peer(BAD).close()


@pytest.mark.parametrize(
    "topic",
    [
        pytest.param("#", id="a wildcard alone"),
        pytest.param(f"{F}/v1/devices/+/up/status", id="one level of wildcard"),
        pytest.param(f"{F}/v1/devices/{BAD}/up/#", id="its own, with a wildcard"),
        pytest.param("", id="no topic"),
        pytest.param("a\x00b", id="a NUL"),
        pytest.param(f"{F}/v1/devices/{BAD}/up/status\n{GOOD} 1 #", id="a line break"),
    ],
)
def test_a_topic_that_is_none_ends_its_session(harbour: Harbour, topic: str) -> None:
    with harbour.unharmed(), harbour.wire() as wire:
        wire.send(_publish(topic.encode()))
        wire.ends()


def _publish(topic: bytes) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic + b"\x00\x01" + b"\x00" + FORGED
    return b"\x32" + bytes([len(body) & 0x7F | 0x80, len(body) >> 7]) + body


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(
            mqtt5.ConnectPacket(GOOD, clean_start=True, keep_alive=600), id="by the other's client id"
        ),
        pytest.param(
            mqtt5.ConnectPacket(BAD, clean_start=True, keep_alive=600, username=GOOD, password=b""),
            id="by the other's user name",
        ),
        pytest.param(
            mqtt5.ConnectPacket(BAD, clean_start=True, keep_alive=600, username="svc.hoister", password=b"x"),
            id="by a service's user name",
        ),
        pytest.param(mqtt5.ConnectPacket("svc.ingest-0", clean_start=True), id="by a service's client id"),
        pytest.param(mqtt5.ConnectPacket("", clean_start=True), id="by no client id"),
    ],
)
def test_it_is_nobody_but_itself(harbour: Harbour, packet: mqtt5.ConnectPacket) -> None:
    """Whatever it calls itself, the certificate's name is what counts, and the other's session goes on."""
    with harbour.unharmed(), harbour.wire(connected=False) as wire:
        wire.send(packet.write())
        assert wire.receive()[:1] == b"\x20"
        for topic in (UPDATE_RESULT.topic(F, id=GOOD), MANIFEST.topic(F, role="kiosk", segment="canary")):
            wire.send(mqtt5.PublishPacket(topic, FORGED, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=7).write())
            assert wire.receive()[:5] == b"\x40\x03\x00\x07\x87"
