"""How much one device that sends as fast as it can slows down the reports of the others.

    python tests/benchmarks/flood.py [--json] [--small] [--only KINDS]

A real `flaghoist-hub up`. Twenty devices each send a durable report twice a second over a TLS connection of their own
and wait for the hub's receipt, first in quiet, then beside a device that floods in a process of its own, another for
each kind:

- `heartbeats`: QoS 1, 250 bytes, as many unacknowledged as the broker lets it have
- `unconfirmed`: the same with QoS 0, where no acknowledgement slows it down
- `large`: heartbeats of 60 KB
- `reports`: durable reports, each of which is a row in the database
- `junk`: bodies that nobody can read, each of which goes to quarantine

`flood_ratio_KIND` is the median time to the receipt beside the flood, by the median in quiet; `flood_ratio` the worst.
`flood_lost` are reports of the others that had no receipt at the end, which must be 0.

The last line with `--json` is one object of the figures.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import mqtt5
from nacl.signing import SigningKey

if not __package__:  # run as a file: the project is two folders up
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from edge.identity.identity import key_pem
from hub.broker.credentials import Credentials
from hub.broker.wire import Link, pubacks
from hub.identity.ca import Authorities, open_authorities
from tests.benchmarks import options
from tests.benchmarks.broker import FLEET, ROOT
from tests.benchmarks.contest import register
from tests.benchmarks.fill import device_names
from tests.e2e.fleet import Fleet, until
from topics import codec
from topics.channels import RECEIPT, STATUS, UPDATE_RESULT
from topics.messages import Receipt, Status, UpdateResult

KINDS: Final = ("heartbeats", "unconfirmed", "large", "reports", "junk")
DEVICES, EVERY_S, SECONDS = 20, 0.5, 20.0
SMALL_SECONDS: Final = 2.0
SPOOL: Final = "f100d000"
BOOT: Final = (1, "00000001")
WINDOW: Final = 1_000
"""What the broker lets a client have unacknowledged."""
DRAIN_SECONDS: Final = 120.0


class Quiet(NamedTuple):
    """What the well-behaved devices saw: times to the receipt in ms, and reports without one."""

    times: list[float]
    lost: int


class Device:
    """One device that reports now and then, on a connection of its own."""

    def __init__(self, name: str, port: int, files: Credentials) -> None:
        self.name = name
        self.link = Link("127.0.0.1", port, files.context())
        self._n = 0
        self.waiting: dict[int, float] = {}
        self.times: list[float] = []
        filters = [mqtt5.TopicFilter(RECEIPT.topic(FLEET, id=name), max_qos=mqtt5.QoS.AT_LEAST_ONCE)]
        self.link.send(
            mqtt5.ConnectPacket(name, clean_start=True, keep_alive=600).write(),
            mqtt5.SubscribePacket(1, filters).write(),
        )

    def report(self) -> None:
        """Send the next report."""
        self._n += 1
        body = UpdateResult(boot=BOOT, at=1, spool=SPOOL, n=self._n, state="downloading", attempt=1)
        self.waiting[self._n] = time.perf_counter()
        self.link.send(_publish(UPDATE_RESULT.topic(FLEET, id=self.name), codec.encode(body), self._n))

    def read(self) -> None:
        """Take up receipts."""
        parsed, _ = self.link.read()
        now = time.perf_counter()
        for uplink in parsed.uplinks:
            receipt = codec.decode(uplink.payload, Receipt, limit=1_000)
            for n in [n for n in self.waiting if n <= receipt.n]:
                self.times.append((now - self.waiting.pop(n)) * 1_000)
        self.link.send(pubacks([uplink.packet_id for uplink in parsed.uplinks if uplink.packet_id]))


def _publish(topic: str, body: bytes, packet_id: int, qos: int = 1) -> bytes:
    return mqtt5.PublishPacket(
        topic, body, qos=mqtt5.QoS(qos), packet_id=packet_id if qos else None, content_type=codec.MSGPACK
    ).write()


def watch(devices: list[Device], seconds: float) -> Quiet:
    """Let `devices` report for so many seconds, then wait for what has no receipt yet."""
    for device in devices:
        device.times.clear()
    begin = time.perf_counter()
    due = [begin + EVERY_S * place / len(devices) for place in range(len(devices))]
    poll = select.poll()
    by_descriptor = {device.link.fileno(): device for device in devices}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    while (now := time.perf_counter()) < begin + seconds + DRAIN_SECONDS:
        if now < begin + seconds:
            for place, device in enumerate(devices):
                if due[place] <= now:
                    device.report()
                    due[place] += EVERY_S
        elif not any(device.waiting for device in devices):
            break
        for descriptor, _ in poll.poll(5):
            by_descriptor[descriptor].read()
    lost = sum(len(device.waiting) for device in devices)
    return Quiet([value for device in devices for value in device.times], lost)


def flood(kind: str, port: int, files: Credentials, name: str) -> None:
    """Send for ever, as fast as the broker takes it. Writes a line when it has begun."""
    link = Link("127.0.0.1", port, files.context())
    link.send(mqtt5.ConnectPacket(name, clean_start=True, keep_alive=600).write())
    n = acknowledged = 0
    connected = False
    while True:
        for packet in link.read()[0].packets:
            if isinstance(packet, mqtt5.ConnAckPacket):
                connected = True
                print("flooding", flush=True)
            acknowledged += isinstance(packet, mqtt5.PubAckPacket)
        room = 200 if kind == "unconfirmed" else min(200, WINDOW - (n - acknowledged))
        if not connected or link.wants_write or not room:
            link.wait(1.0)
            link.flush()
            continue
        packets = [_flooding(kind, name, n + place) for place in range(1, room + 1)]
        n += room
        link.send(*packets)


def _flooding(kind: str, name: str, n: int) -> bytes:
    packet_id = n % 60_000 + 1
    if kind == "reports":
        body = codec.encode(UpdateResult(boot=BOOT, at=1, spool=SPOOL, n=n, state="downloading", attempt=1))
        return _publish(UPDATE_RESULT.topic(FLEET, id=name), body, packet_id)
    topic = STATUS.topic(FLEET, id=name)
    if kind == "junk":
        return _publish(topic, b"\x81\xa1x" + os.urandom(100), packet_id)
    status = Status(
        boot=BOOT, at=1_700_000_000, seq=n, role="kiosk", segment="canary", agent_version="x" * 100
    )
    body = codec.encode(status)
    if kind == "large":
        body = bytes([body[0] + 1]) + b"\xa4more\xda\xea\x60" + b"x" * 60_000 + body[1:]
    return _publish(topic, body, packet_id, 0 if kind == "unconfirmed" else 1)


def _files(folder: Path, authorities: Authorities, name: str) -> Credentials:
    key = SigningKey.generate()
    files = Credentials(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key")
    files.ca.write_text(authorities.device.pem)
    files.certificate.write_text(
        authorities.device.issue_device(bytes(key.verify_key), name, now=int(time.time()))
    )
    files.key.write_bytes(key_pem(bytes(key)))
    return files


def measure(folder: Path, kinds: list[str], seconds: float) -> dict[str, Any]:
    """Return the figures of one run."""
    fleet = Fleet(folder / "fleet", FLEET)
    figures: dict[str, Any] = {}
    try:
        fleet.start_hub()
        register(fleet.data, DEVICES + len(kinds))
        until("ingest", lambda: fleet.get("/telemetry/quarantine"))
        authorities = open_authorities(fleet.data / "ca", FLEET, now=int(time.time()))
        names = device_names(DEVICES + len(kinds))
        files = {name: _files(folder, authorities, name) for name in names}
        devices = [Device(name, fleet.mqtt_port, files[name]) for name in names[:DEVICES]]
        watch(devices, 1.0)  # every device has its row
        quiet = watch(devices, seconds)
        base = statistics.median(quiet.times)
        figures["quiet_ms"] = round(base, 1)
        figures["flood_lost"] = quiet.lost
        for kind, flooder in zip(kinds, names[DEVICES:], strict=True):
            command = [sys.executable, __file__, "--flood", kind, str(fleet.mqtt_port), str(folder), flooder]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
            assert process.stdout is not None
            process.stdout.readline()
            try:
                seen = watch(devices, seconds)
            finally:
                process.kill()
                process.wait()
                process.stdout.close()
            figures[f"flood_ms_{kind}"] = round(statistics.median(seen.times), 1)
            figures[f"flood_p99_ms_{kind}"] = round(statistics.quantiles(seen.times, n=100)[98], 1)
            figures[f"flood_ratio_{kind}"] = round(statistics.median(seen.times) / base, 2)
            figures["flood_lost"] += seen.lost
            watch(devices, 0.5)  # until the hub is through with what the flood left
        figures["flood_ratio"] = max(figures[f"flood_ratio_{kind}"] for kind in kinds)
    finally:
        fleet.close()
    return figures


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--flood"]:
        kind, port, folder, name = sys.argv[2:]
        place = Path(folder)
        flood(
            kind, int(port), Credentials(place / "ca.pem", place / f"{name}.pem", place / f"{name}.key"), name
        )
    chosen = options.chosen(str(__doc__), KINDS)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), chosen.parts, SMALL_SECONDS if chosen.small else SECONDS)
    for name, value in figures.items():
        print(f"  {name:<28} {value}", file=sys.stderr)
    if chosen.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
