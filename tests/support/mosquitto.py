"""A real TLS broker with the project's own CA, configuration and access list, on free ports, for any test.

    with Broker(tmp_path) as broker:
        with broker.device("shop-12") as peer:
            peer.publish("acme/v1/devices/shop-12/up/status", b"...")

Start it from a test's main thread; it ends with the test process whatever happens.
"""

from __future__ import annotations

import base64
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
from nacl.signing import SigningKey
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from hub.broker import mosquitto
from hub.broker.config import BrokerSettings
from hub.broker.credentials import Credentials, service_credentials
from hub.identity.ca import Authorities, open_authorities
from hub.identity.files import write_atomic
from tests.support.ports import held_port

FLEET = "acme"
PKCS8_ED25519 = bytes.fromhex("302e020100300506032b657004220420")
"""DER prefix that turns a 32-byte Ed25519 seed into a PKCS#8 private key."""


def wait_until(condition: Callable[[], Any], seconds: float = 60.0, what: str = "the condition") -> Any:
    """Return the first true value of `condition`; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.005)


class Broker:
    """Mosquitto as the hub runs it. `folder` keeps its state, so a new `Broker` on it goes on where it was."""

    def __init__(self, folder: Path, *, fleet: str = FLEET, slots: int = 1, **settings: Any) -> None:
        self.fleet = fleet
        self.folder = folder
        self.authorities: Authorities = open_authorities(folder / "ca", fleet, now=int(time.time()))
        ports = {"device_port": held_port(), "service_port": held_port()}
        self.settings = BrokerSettings(
            folder / "broker", fleet, **{"host": "127.0.0.1", "slots": slots, **ports, **settings}
        )
        self.log: list[str] = []
        self._revoked: tuple[str, ...] = ()
        self._muted: tuple[str, ...] = ()
        self._child: mosquitto.Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def device_port(self) -> int:
        return self.settings.device_port

    @property
    def service_port(self) -> int:
        return self.settings.service_port

    def start(self) -> None:
        """Start (or start again, on the same ports) and wait until it accepts connections."""
        ready = threading.Event()

        def heard(line: str) -> None:
            self.log.append(line)
            if line.endswith("running"):
                ready.set()

        mosquitto.prepare_folder(self.settings.folder, mosquitto.broker_owner(self.settings))
        self._write_files()
        read_end, write_end = os.pipe()
        try:
            argv = mosquitto.command(self.settings)
            self._child = mosquitto.Child(argv, self.settings.folder, read_end, heard)
        finally:
            os.close(read_end)
            os.close(write_end)
        assert ready.wait(30), f"Mosquitto said nothing of use: {self.log[-5:]}"

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        assert self._child is not None
        self._child.process.kill()
        self.stop()

    def reload(self, revoked: Iterable[str], muted: Iterable[str] = ()) -> None:
        """Let the broker read which device certificates (serials) were withdrawn and who is muted, as the hub does."""
        assert self._child is not None
        self._revoked, self._muted = tuple(revoked), tuple(muted)
        self._write_files()
        self._child.process.send_signal(signal.SIGHUP)

    def _write_files(self) -> None:
        now = int(time.time())
        revoked, muted = self._revoked, self._muted
        mosquitto.write_files(self.settings, self.authorities, now=now, revoked=revoked, muted=muted)

    def service_files(self, name: str) -> Credentials:
        """Paths of the TLS files of the hub's own connection `name`."""
        folder = self.folder / "services"
        return service_credentials(folder, self.authorities.service, name, now=int(time.time()))

    def device_files(self, device_id: str, key: SigningKey | None = None) -> Credentials:
        """Paths of the TLS files of a device: its CA pin, its certificate and its key (PKCS#8)."""
        key = key or SigningKey.generate()
        folder = self.folder / "devices"
        folder.mkdir(exist_ok=True)
        files = Credentials(
            folder / "device-ca.pem", folder / f"{device_id}.pem", folder / f"{device_id}.key"
        )
        certificate = self.authorities.device.issue_device(
            bytes(key.verify_key), device_id, now=int(time.time())
        )
        # Whole or not at all: other threads may be reading it for devices of theirs.
        write_atomic(files.ca, self.authorities.device.pem.encode(), 0o644)
        files.certificate.write_text(certificate)
        body = base64.encodebytes(PKCS8_ED25519 + bytes(key)).decode()
        files.key.write_text(f"-----BEGIN PRIVATE KEY-----\n{body}-----END PRIVATE KEY-----\n")
        return files

    def device(self, device_id: str, **options: Any) -> Peer:
        """A connected device."""
        return Peer(self.device_files(device_id), self.device_port, device_id, **options)

    def service(self, name: str, **options: Any) -> Peer:
        """A connected service of the hub."""
        return Peer(self.service_files(name), self.service_port, name, **options)


class Peer:
    """One MQTT 5 connection, synchronous: every call returns when the broker has answered."""

    def __init__(
        self,
        files: Credentials,
        port: int,
        client_id: str,
        *,
        will: tuple[str, bytes] | None = None,
        seconds: float = 60.0,
    ) -> None:
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.disconnected = threading.Event()
        self._seconds = seconds
        self._answers: dict[int, queue.Queue[list[int]]] = {}
        self._lock = threading.Lock()
        connected: queue.Queue[int] = queue.Queue()
        client = self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        client.tls_set_context(files.context())
        client.max_inflight_messages_set(1000)
        if will:
            client.will_set(*will, qos=1, retain=True)
        client.on_connect = lambda _c, _u, _f, reason, _p: connected.put(reason.value)
        client.on_disconnect = lambda *_: self.disconnected.set()
        client.on_message = lambda _c, _u, message: self.messages.put((message.topic, bytes(message.payload)))
        client.on_publish = lambda _c, _u, mid, reason, _p: self._answer(mid).put([reason.value])
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: self._answer(mid).put(
            [reason.value for reason in reasons]
        )
        client.connect("127.0.0.1", port, clean_start=paho.MQTT_CLEAN_START_FIRST_ONLY)
        client.loop_start()
        code = connected.get(timeout=seconds)
        assert code == 0, f"CONNACK {code}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, mid: int) -> queue.Queue[list[int]]:
        with self._lock:
            return self._answers.setdefault(mid, queue.Queue())

    def send(self, topic: str, body: bytes, *, qos: int = 1, retain: bool = False, kind: str = "") -> int:
        """Publish without waiting; return the message id for `acknowledged`."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if kind:
            properties.ContentType = kind
        return self._client.publish(topic, body, qos=qos, retain=retain, properties=properties).mid

    def acknowledged(self, mid: int) -> int:
        """Wait for the PUBACK of `send` and return its reason code."""
        return self._answer(mid).get(timeout=self._seconds)[0]

    def publish(self, topic: str, body: bytes, *, retain: bool = False, kind: str = "") -> int:
        """Publish with QoS 1 and return the PUBACK's reason code."""
        return self.acknowledged(self.send(topic, body, retain=retain, kind=kind))

    def subscribe(self, *filters: str, qos: int = 1) -> list[int]:
        """Subscribe and return the SUBACK's reason codes."""
        _, mid = self._client.subscribe([(text, SubscribeOptions(qos=qos)) for text in filters])
        assert mid is not None
        return self._answer(mid).get(timeout=self._seconds)

    def receive(self, seconds: float | None = None) -> tuple[str, bytes]:
        """Return the next message as (topic, body)."""
        return self.messages.get(timeout=seconds or self._seconds)

    def drop(self) -> None:
        """Break the connection without DISCONNECT, so that the will is published."""
        socket = self._client.socket()
        assert socket is not None
        socket.close()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
