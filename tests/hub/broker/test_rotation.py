"""Certificates of the broker itself change under real connections: nobody but new ones notices."""

from __future__ import annotations

import hashlib
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from hub.broker import mosquitto
from hub.broker.credentials import Credentials
from hub.broker.evict import evict
from hub.identity.building import DAY
from hub.identity.ca import LEAF_DAYS
from hub.identity.revocation import serial_of
from tests.support.mosquitto import Broker, Peer, wait_until
from tests.support.tls import is_refused

STATUS = "acme/v1/devices/{}/up/status"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as made:
        yield made


def reread(broker: Broker, *, now: int, revoked: tuple[str, ...] = ()) -> None:
    """What the hub does when something of its own is due at `now` (s)."""
    mosquitto.write_files(broker.settings, broker.authorities, now=now, revoked=revoked)
    assert broker._child is not None
    broker._child.process.send_signal(signal.SIGHUP)


def shown(broker: Broker, files: Credentials) -> str:
    """Hash of the certificate that the device listener shows."""
    context = files.context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", broker.device_port), timeout=30) as plain,
        context.wrap_socket(plain) as secure,
    ):
        der = secure.getpeercert(binary_form=True)
    assert der is not None
    return hashlib.sha256(der).hexdigest()


def believing(files: Credentials, pem: str, folder: Path, name: str) -> Credentials:
    path = folder / f"{name}-ca.pem"
    path.write_text(pem)
    return replace(files, ca=path)


def test_the_brokers_certificate_is_renewed_in_time_and_sessions_stay(broker: Broker) -> None:
    now = int(time.time())
    with broker.device("a") as device:
        files = broker.device_files("looker")
        first = shown(broker, files)
        reread(broker, now=now + (LEAF_DAYS // 2) * DAY)
        assert shown(broker, files) == first, "half of its life is no reason"
        reread(broker, now=now + (LEAF_DAYS * 3 // 4) * DAY)
        wait_until(lambda: shown(broker, files) != first, what="another certificate of the broker")
        assert device.publish(STATUS.format("a"), b"x") in (0, 0x10)
        assert not device.disconnected.is_set()


@pytest.mark.heavy
def test_a_new_ca_is_taken_then_shown_and_old_sessions_stay(broker: Broker, tmp_path: Path) -> None:
    now, authorities = int(time.time()), broker.authorities
    old = broker.device_files("old")
    old = believing(old, authorities.bundle, tmp_path, "old")
    with Peer(old, broker.device_port, "old") as stays:
        authorities.change(replace(authorities.generations, newest=2), now)
        reread(broker, now=now)
        both = believing(
            broker.device_files("both", SigningKey.generate()), authorities.bundle, tmp_path, "both"
        )
        wait_until(
            lambda: not is_refused(both.context(), broker.device_port), what="a certificate by the new CA"
        )
        assert not is_refused(old.context(), broker.device_port), "and one by the old CA as before"
        before = shown(broker, both)

        authorities.change(replace(authorities.generations, serving=2), now)
        withdrawn = (serial_of(both.certificate.read_text()), serial_of(old.certificate.read_text()))
        reread(broker, now=now)
        wait_until(lambda: shown(broker, both) != before, what="a certificate of the broker by the new CA")
        assert not is_refused(both.context(), broker.device_port)
        assert is_refused(old.context(), broker.device_port), "who knows the old CA alone does not believe it"
        assert stays.publish(STATUS.format("old"), b"x") in (0, 0x10)

        reread(broker, now=now, revoked=withdrawn)
        late = believing(old, authorities.bundle, tmp_path, "late")
        for files in (both, late):
            wait_until(lambda files=files: is_refused(files.context(), broker.device_port), what="the lists")  # type: ignore[misc]
        evict(authorities, "old", port=broker.device_port, now=now)
        assert stays.disconnected.wait(60)
