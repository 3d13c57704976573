"""One real hub with its broker, a device that behaves well, and whatever a hostile one can do beside it.

The hostile device, `mallory`, is enrolled like any other: it has a certificate that opens the broker.
`Harbour.unharmed` is what every row ends with: the other device's next report is acknowledged by the broker, receipted
by the hub and found in its API; on one connection all the while, it heard of nothing that changed for it or everybody.
"""

from __future__ import annotations

import queue
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import mqtt5
from nacl.signing import SigningKey

from edge.identity.identity import key_pem
from hub.broker.credentials import Credentials
from hub.identity.building import DAY
from hub.identity.ca import Authorities, Authority, open_authorities
from tests.e2e.fleet import Fleet
from tests.support.mosquitto import Peer
from topics import codec
from topics.channels import RECEIPT, UPDATE_RESULT, device_subscriptions
from topics.messages import Receipt, UpdateResult

F: Final = "demo"
GOOD: Final = "shop-1"
BAD: Final = "mallory"
SPOOL: Final = "600d600d"
PATIENCE: Final = 60.0
"""Seconds that anything may take: no test is decided by how fast a machine is."""


class Harbour:
    """The hub, and both devices' credentials."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.port = fleet.mqtt_port
        self.files = {name: self.enrol(name) for name in (GOOD, BAD)}
        self.authorities: Authorities = open_authorities(fleet.data / "ca", F, now=int(time.time()))
        self._sent = 0
        self.good = self.listen()

    def enrol(self, name: str) -> Credentials:
        """Enrol a device as people do, and return its files."""
        agent = self.fleet.enrol(name, "canary")
        folder = agent.state / "identity"
        return Credentials(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")

    def peer(self, name: str, **options: Any) -> Peer:
        """A connection of an enrolled device."""
        return Peer(self.files[name], self.port, name, seconds=PATIENCE, **options)

    def forged(
        self, folder: Path, name: str, *, days_ago: int = 0, by: Authority | None = None
    ) -> Credentials:
        """Files of a client with a certificate for `name`, of the fleet's own device authority or another."""
        key, now = SigningKey.generate(), int(time.time())
        files = Credentials(self.files[GOOD].ca, folder / "forged.pem", folder / "forged.key")
        issuer = by or self.authorities.device
        files.certificate.write_text(
            issuer.issue_device(bytes(key.verify_key), name, now=now - days_ago * DAY)
        )
        files.key.write_bytes(key_pem(bytes(key)))
        return files

    @contextmanager
    def wire(self, name: str = BAD, *, connected: bool = True) -> Iterator[Wire]:
        """A TLS connection of a device on which any bytes can be sent, after its CONNACK if `connected`."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as plain,
            self.files[name].context().wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            wire = Wire(secure)
            if connected:
                wire.send(mqtt5.ConnectPacket(name, clean_start=True, keep_alive=600).write())
                assert wire.receive()[:1] == b"\x20", "no CONNACK"
            yield wire

    # What must stay as it is

    def listen(self) -> Peer:
        """Connect the good device as an agent does, and take up what is retained for it."""
        good = self.peer(GOOD)
        topics = [topic for topic, _ in device_subscriptions(F, GOOD, "kiosk", "canary")]
        good.subscribe(*topics)
        retained = {good.receive()[0] for _ in range(3)}
        assert retained == {*topics} - {RECEIPT.topic(F, id=GOOD)}
        return good

    def quarantined(self) -> int:
        """How many messages were put in quarantine."""
        return sum(self.fleet.get("/telemetry/quarantine")["counts"].values())

    def report(self) -> int:
        """The good device reports; returns n once the broker has acknowledged, the hub receipted and shown it."""
        self._sent += 1
        n = self._sent
        body = UpdateResult(
            boot=(1, "00000001"), at=1, spool=SPOOL, n=n, state="downloading", release=f"kiosk-{n}-abc"
        )
        assert self.good.publish(UPDATE_RESULT.topic(F, id=GOOD), codec.encode(body)) == 0
        receipt = Receipt(spool=SPOOL, n=0)
        while receipt.n < n:
            topic, data = self.good.receive()
            # Whatever else it hears is something of its own, or of everybody's, that has changed.
            assert topic == RECEIPT.topic(F, id=GOOD), topic
            receipt = codec.decode(data, Receipt, limit=1000)
            assert receipt.spool == SPOOL
        assert n in {report["n"] for report in self.fleet.get(f"/telemetry/devices/{GOOD}")["reports"]}
        return n

    @contextmanager
    def unharmed(self, *, quarantine: bool = False) -> Iterator[None]:
        """Whatever happens within, the good device is connected throughout, is heard, and nothing of it changes.

        With `quarantine`, more may have come into quarantine: that is where what cannot be read goes.
        """
        before = self.quarantined()
        yield
        self.report()
        assert quarantine or self.quarantined() == before
        assert not self.good.disconnected.is_set()

    def told(self, kind: str, name: str) -> list[str]:
        """The reasons of a device's events of a kind, newest first."""
        found = self.fleet.get(f"/audits?deviceId={name}&kind={kind}&limit=200")["items"]
        return [item["reason"] for item in found]


class Wire:
    """Any bytes, over TLS."""

    def __init__(self, secure: ssl.SSLSocket) -> None:
        self.secure = secure

    def send(self, data: bytes) -> None:
        """Send all of `data`; that the other side has hung up meanwhile is no fault."""
        try:
            self.secure.sendall(data)
        except (ConnectionError, ssl.SSLError):
            return

    def receive(self) -> bytes:
        """Return what comes next, b"" when the broker has hung up."""
        try:
            return self.secure.recv(65_536)
        except (ConnectionError, ssl.SSLError):
            return b""

    def ends(self) -> bytes:
        """Read until the broker hangs up and return the last of it; a `TimeoutError` when it never does."""
        last = b""
        while data := self.receive():
            last = data
        return last


def topics_of(bodies: queue.Queue[tuple[str, bytes]]) -> set[str]:
    """The topics of everything that a peer was given."""
    found = set()
    while not bodies.empty():
        found.add(bodies.get()[0])
    return found
