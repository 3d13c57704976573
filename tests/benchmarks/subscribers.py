"""Devices that hold a connection and wait: the far end of a fan-out, in a process of its own.

    python -m tests.benchmarks.subscribers DATA PORT DEVICES

DATA is a hub's data directory, whose CA signs a certificate for each. Every device subscribes to what a device of
kiosk/canary does, and to the manifest of bench/canary. For each new payload that all devices hold, one line of JSON
says when (s, monotonic) the first and the last got it.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Final

import mqtt5
from nacl.signing import SigningKey

from hub.identity.ca import Authority, open_authorities
from tests.support.mosquitto import PKCS8_ED25519
from tests.topics import kit
from topics.channels import MANIFEST, device_subscriptions

FLEET: Final = "demo"
BENCH_TOPIC: Final = MANIFEST.topic(FLEET, role="bench", segment="canary")
MANIFEST_TOPIC: Final = MANIFEST.topic(FLEET, role="kiosk", segment="canary")
READ: Final = 1 << 16


class Device:
    """One connection that answers every message with a PUBACK."""

    def __init__(self, name: str, port: int, context: ssl.SSLContext) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=60)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        self._left = b""
        self.socket.sendall(mqtt5.ConnectPacket(name, clean_start=True, keep_alive=0).write())
        wanted = [*device_subscriptions(FLEET, name, "kiosk", "canary"), (BENCH_TOPIC, 1)]
        filters = [mqtt5.TopicFilter(topic, max_qos=mqtt5.QoS(qos)) for topic, qos in wanted]
        self.socket.sendall(mqtt5.SubscribePacket(1, filters).write())
        while not any(
            isinstance(packet, mqtt5.SubAckPacket) for packet in self._packets(self.socket.recv(READ))
        ):
            pass
        self.socket.setblocking(False)

    def read(self) -> list[tuple[str, bytes]]:
        """Take what has arrived, acknowledge it, and return the messages."""
        found: list[tuple[str, bytes]] = []
        while True:
            try:
                data = self.socket.recv(READ)
            except (BlockingIOError, ssl.SSLWantReadError):
                return found
            if not data:
                raise ConnectionError("the broker closed a connection")
            for packet in self._packets(data):
                if isinstance(packet, mqtt5.PublishPacket):
                    found.append((packet.topic, bytes(packet.payload or b"")))
                    if packet.packet_id:
                        self.socket.send(mqtt5.PubAckPacket(packet.packet_id).write())

    def _packets(self, data: bytes) -> list[mqtt5.Packet]:
        buffer, packets = self._left + data, []
        view = memoryview(buffer)
        used = 0
        while used < len(buffer):
            try:
                packet, size = mqtt5.read(view[used:])
            except IndexError:
                break
            packets.append(packet)
            used += size
        self._left = buffer[used:]
        return packets


def connect(folder: Path, authority: Authority, name: str, port: int) -> Device:
    """Return a connected device with a certificate made now."""
    key = SigningKey(kit.key(name).encode())
    body = ssl.DER_cert_to_PEM_cert(PKCS8_ED25519 + bytes(key)).replace("CERTIFICATE", "PRIVATE KEY")
    file = folder / "device.pem"
    file.write_text(authority.issue_device(bytes(key.verify_key), name, now=int(time.time())) + body)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.pem)
    context.load_cert_chain(file)
    return Device(name, port, context)


def main() -> None:
    data, port, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    folder = data.parent / "subscribers"
    folder.mkdir(exist_ok=True)
    authority = open_authorities(data / "ca", FLEET, now=int(time.time())).device
    poll = select.epoll()
    devices = {}
    for number in range(count):
        device = connect(folder, authority, f"shop-{number:05d}", port)
        devices[device.socket.fileno()] = device
        poll.register(device.socket.fileno(), select.EPOLLIN)
    print(json.dumps({"connected": count}), flush=True)
    held: dict[tuple[str, bytes], tuple[int, float]] = {}
    while True:
        for handle, _ in poll.poll():
            for message in devices[handle].read():
                known, first = held.get(message, (0, time.monotonic()))
                held[message] = (known + 1, first)
                if known + 1 == count:
                    line = {
                        "topic": message[0],
                        "bytes": len(message[1]),
                        "first": first,
                        "last": time.monotonic(),
                    }
                    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
