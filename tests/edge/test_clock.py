"""Devices whose clock starts in 1970 (D1), and TLS without dates against the pinned CA."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from edge.config import Paths
from edge.identity import identity
from edge.identity.identity import Device, Identity
from edge.link import Disconnected, MqttLink
from edge.machine import clock
from hub.identity.ca import Authority, open_authorities
from tests.edge.world import FLEET, NOW, wait_until
from tests.support.mosquitto import Broker
from tests.topics import kit
from topics.trust import Mark, TrustState, pin_root, sha256

ROOT = kit.signed_root(expires_at=NOW + 365 * kit.DAY)
YEAR = 365 * 86_400


def trusting(newest: int) -> TrustState:
    state = pin_root(ROOT, sha256(ROOT))
    return TrustState(state.root, state.root_bytes, {"t": Mark(newest, "0" * 64)})


@pytest.mark.parametrize(
    ("wall", "newest", "ok"),
    [
        pytest.param(0, 0, False, id="1970"),
        pytest.param(NOW, 0, True, id="nothing known against it"),
        pytest.param(NOW, NOW + kit.DAY // 2, True, id="half a day behind the newest document"),
        pytest.param(NOW, NOW + 2 * kit.DAY, False, id="two days behind the newest document"),
        pytest.param(clock.PLAUSIBLE_MS - 1, 0, False, id="before this system existed"),
    ],
)
def test_a_clock_is_believed_only_if_nothing_speaks_against_it(wall: int, newest: int, ok: bool) -> None:
    assert clock.judge(trusting(newest), wall).ok is ok


@pytest.mark.parametrize(
    ("name", "known"), [("Europe/Berlin", True), ("Mars/Base", False), ("../etc", False)]
)
def test_zones_that_nobody_knows_are_none(name: str, known: bool) -> None:
    assert (clock.zones(name) is not None) is known


def enrolled(folder: Path, authority: Authority, now: int) -> Identity:
    """Return the identity of a device whose certificate is valid around `now` (s)."""
    paths = Paths(folder / "state")
    paths.make()
    key = SigningKey.generate()
    device = Device(fleet=FLEET, device_id="shop-12", mqtt_host="x", mqtt_port=1, http_url="http://x")
    certificate = authority.issue_device(bytes(key.verify_key), "shop-12", now=now)
    identity.write(
        paths, device, seed=bytes(key), certificate_pem=certificate, ca_pem=authority.pem, unique="a"
    )
    return Identity(paths)


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Complete a handshake in memory; raises what the client says."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        for side in (one, other):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize(
    ("clock_ok", "ours", "good"),
    [
        pytest.param(True, True, False, id="dates are checked by a good clock"),
        pytest.param(False, True, True, id="dates are not checked by a bad clock"),
        pytest.param(False, False, False, id="another CA is refused even then"),
    ],
)
def test_a_certificate_that_is_not_yet_valid(tmp_path: Path, clock_ok: bool, ours: bool, good: bool) -> None:
    later = NOW // 1000 + 5 * YEAR
    authority = open_authorities(tmp_path / "ca", FLEET, now=later).device
    other = open_authorities(tmp_path / "other", FLEET, now=later).device
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer = authority if ours else other
    certificate, key = issuer.issue_server(["127.0.0.1"], now=later)
    (tmp_path / "s.pem").write_text(certificate)
    (tmp_path / "s.key").write_text(key)
    server.load_cert_chain(tmp_path / "s.pem", tmp_path / "s.key")
    client = enrolled(tmp_path, authority, later).tls(clock_ok=clock_ok)
    if good:
        shake_hands(client, server)
    else:
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            shake_hands(client, server)
        assert ("check it" in clock.blamed(caught.value)) is ours


@pytest.mark.parametrize(
    ("years", "word"),
    [
        pytest.param(-20, "this device's certificate has expired; check both clocks", id="expired"),
        pytest.param(20, "it may not be valid yet: check both clocks", id="not yet valid"),
    ],
)
def test_a_broker_that_refuses_our_dates_makes_us_look_at_the_clocks(
    tmp_path: Path, years: int, word: str
) -> None:
    with Broker(tmp_path / "hub") as broker:
        authority = broker.authorities.device
        device = enrolled(tmp_path, authority, NOW // 1000 + years * YEAR)
        link = MqttLink("127.0.0.1", broker.device_port, "shop-12", 60)

        def told() -> bool:
            # The broker may close before we have read its alert; the agent, too, connects again then.
            if link.socket() is None:
                link.open(device.tls(clock_ok=False), "t", b"x")
            link.readable()
            return any(word in event.reason for event in link.events() if isinstance(event, Disconnected))

        wait_until(told)


def test_a_server_whose_certificate_is_over_makes_us_look_at_the_clock(tmp_path: Path) -> None:
    authority = open_authorities(tmp_path / "ca", FLEET, now=NOW // 1000).device
    certificate, key = authority.issue_server(["127.0.0.1"], now=NOW // 1000 - 20 * YEAR)
    (tmp_path / "s.pem").write_text(certificate)
    (tmp_path / "s.key").write_text(key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "s.pem", tmp_path / "s.key")
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        shake_hands(enrolled(tmp_path, authority, NOW // 1000).tls(clock_ok=True), server)
    assert "the clock here says 20" in clock.blamed(caught.value)
    assert clock.blamed(OSError("no route")) == ""
