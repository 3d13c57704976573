"""Who does not get in: certificates that are not, not yet, no longer, or not for this door; names that are none."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import mqtt5
import msgspec
import pytest

from hub.broker.credentials import Credentials
from hub.identity.ca import open_authorities
from tests.hostile.harbour import BAD, GOOD, F, Harbour
from tests.support.mosquitto import Peer, wait_until
from tests.support.tls import is_refused
from topics.channels import DESIRED, MANIFEST, STATUS

pytestmark = pytest.mark.heavy

Shown = Callable[[Harbour, Path], ssl.SSLContext]


def issued(*, days_ago: int) -> Shown:
    """A certificate of the fleet's own CA."""

    return lambda harbour, folder: harbour.forged(folder, BAD, days_ago=days_ago).context()


def of_another_fleet(harbour: Harbour, folder: Path) -> ssl.SSLContext:
    foreign = open_authorities(folder / "ca", F, now=int(time.time())).device
    return harbour.forged(folder, GOOD, by=foreign).context()


def of_the_service_authority(harbour: Harbour, folder: Path) -> ssl.SSLContext:
    certificate, key = harbour.authorities.service.issue_service("svc.hoister", now=int(time.time()))
    files = Credentials(harbour.files[GOOD].ca, folder / "c.pem", folder / "c.key")
    files.certificate.write_text(certificate)
    files.key.write_text(key)
    return files.context()


def none_at_all(harbour: Harbour, _folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(harbour.files[GOOD].ca)
    return context


def the_brokers_own(harbour: Harbour, _folder: Path) -> ssl.SSLContext:
    """A server's certificate of the right CA, as a hub's backup would hold it."""
    broker = harbour.fleet.data / "broker"
    return Credentials(
        harbour.files[GOOD].ca, broker / "device-server.pem", broker / "device-server.key"
    ).context()


def older_tls(harbour: Harbour, _folder: Path) -> ssl.SSLContext:
    context = harbour.files[BAD].context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@pytest.mark.parametrize(
    "show",
    [
        pytest.param(issued(days_ago=400), id="expired"),
        pytest.param(issued(days_ago=-3), id="not valid yet"),
        pytest.param(of_another_fleet, id="of another authority, with the good device's name"),
        pytest.param(of_the_service_authority, id="a service's, at the devices' door"),
        pytest.param(none_at_all, id="no certificate"),
        pytest.param(the_brokers_own, id="the broker's own"),
        pytest.param(older_tls, id="its own, with TLS 1.2"),
    ],
)
def test_a_certificate_that_opens_nothing(harbour: Harbour, tmp_path: Path, show: Shown) -> None:
    with harbour.unharmed():
        assert is_refused(show(harbour, tmp_path), harbour.port)


def test_a_certificate_that_was_withdrawn(harbour: Harbour) -> None:
    """Its session ends though it stands, and it opens no other."""
    name = "fallen"
    files = harbour.enrol(name)
    with harbour.unharmed(), Peer(files, harbour.port, name) as fallen:
        harbour.fleet.flaghoist("device", "revoke", name)
        assert fallen.disconnected.wait(60)
        wait_until(lambda: is_refused(files.context(), harbour.port), what="the closed door")


def test_a_handshake_of_before_the_withdrawal_lets_nobody_listen(harbour: Harbour) -> None:
    """Mosquitto asks its list during the handshake alone: who made one and kept its CONNECT back is let in."""
    name = "patient"
    files = harbour.files[name] = harbour.enrol(name)
    desired = DESIRED.topic(F, id=name)
    with harbour.unharmed(), harbour.wire(name, connected=False) as patient:
        harbour.fleet.flaghoist("device", "revoke", name)
        wait_until(lambda: is_refused(files.context(), harbour.port), what="the closed door")
        patient.send(mqtt5.ConnectPacket(name, clean_start=True, keep_alive=600).write())
        patient.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(desired)]).write())
        patient.ends()


@pytest.mark.parametrize("name", ["+", "#", "shop-1/", "$share", "SHOP-1", "shop-1 "])
def test_a_name_that_is_no_devices_speaks_for_nobody(harbour: Harbour, tmp_path: Path, name: str) -> None:
    """The hub issues no such certificate; were there one, the access list would still give it nothing of others."""
    files = harbour.forged(tmp_path, name)
    with harbour.unharmed():
        try:
            peer = Peer(files, harbour.port, name)
        except (OSError, AssertionError):
            return  # not even let in
        with peer:
            for topic in (STATUS.topic(F, id=GOOD), MANIFEST.topic(F, role="kiosk", segment="canary")):
                assert peer.publish(topic, b"x", retain=True) == 0x87


@pytest.mark.parametrize(
    "name", ["+", "#", "a/b", "$share", "svc.hoister", "SHOP-1", "", "x" * 64, "shop-1\n"]
)
def test_no_such_name_is_enrolled(harbour: Harbour, name: str) -> None:
    body = msgspec.msgpack.encode(
        {"token_id": "0" * 32, "device_id": name, "public_key": b"k" * 32, "agent_version": "1.0"}
    )
    request = urllib.request.Request(
        f"{harbour.fleet.url}/devices/register", body, {"Content-Type": "application/msgpack"}
    )
    with harbour.unharmed():
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=60)
        with caught.value as answer:
            assert answer.headers["Content-Type"] == "application/problem+json"
            problem = json.load(answer)
        assert 400 <= problem["status"] < 500
        assert "device_id" in problem["detail"]
