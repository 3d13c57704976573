"""A real broker with TLS and the access list that the hub renders, and a device as processes of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from edge.identity import identity
from edge.identity.identity import Device
from edge.storage.spool import Spool
from tests.edge.world import (
    DEVICE,
    FLEET,
    Box,
    Built,
    Source,
    build,
)
from tests.support.mosquitto import Broker, Peer
from topics import codec
from topics.channels import RECEIPT, UPLINK_LIMIT
from topics.messages import Presence, Receipt, Status, UpdateResult

SERVICE = b"#!/bin/sh\necho up\nexec sleep 600\n"
UP = f"{FLEET}/v1/devices/{DEVICE}/up"


class Rig:
    """A broker with the hub's two voices, and one enrolled device as processes."""

    def __init__(self, folder: Path, broker: Broker, source: Source) -> None:
        self.broker, self.source = broker, source
        self.box = Box(folder, source)
        self.box.close()
        self.paths = self.box.paths
        self.files = broker.device_files(DEVICE, self.box.key)
        self.identify(FLEET)
        self.hoister: Peer = broker.service("svc.hoister")
        self.ingest: Peer = broker.service("svc.ingest-0")
        self.ingest.subscribe(f"{FLEET}/v1/devices/+/up/#")
        self.processes: list[subprocess.Popen[str]] = []
        self.seen: list[tuple[str, bytes]] = []

    def identify(self, fleet: str) -> None:
        device = Device(
            fleet=fleet,
            device_id=DEVICE,
            mqtt_host="127.0.0.1",
            mqtt_port=self.broker.device_port,
            http_url=self.source.url,
            hardware="rpi4",
        )
        identity.write(
            self.paths,
            device,
            seed=bytes(self.box.key),
            certificate_pem=self.files.certificate.read_text(),
            ca_pem=self.files.ca.read_text(),
            unique=identity.unique(),
        )

    def hoist(self, topic: str, body: bytes) -> None:
        assert self.hoister.publish(topic, body, retain=True) < 0x80

    def command(self, *arguments: str) -> list[str]:
        program = [sys.executable, "-m", "edge.main", arguments[0], "--state", str(self.paths.root)]
        return [*program, *arguments[1:]]

    @property
    def environment(self) -> dict[str, str]:
        quick = {"BACKOFF_BASE_SECONDS": "0.05", "BACKOFF_CAP_SECONDS": "0.3", "LATER_SECONDS": "0.1"}
        return os.environ | {f"FLAGHOIST_EDGE_{name}": value for name, value in quick.items()}

    def run(self, fleet: str = FLEET) -> subprocess.Popen[str]:
        self.identify(fleet)
        return self.start()

    def start(self) -> subprocess.Popen[str]:
        """Run the agent as it is enrolled."""
        process = subprocess.Popen(
            self.command("run"), env=self.environment, stderr=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        return process

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def heard(self, tail: str) -> bytes:
        """Return the body of the next uplink whose topic ends so."""
        while True:
            topic, body = self.ingest.receive(20)
            self.seen.append((topic, body))
            if topic.endswith(f"/up/{tail}"):
                return body

    def status(self) -> Status:
        return codec.decode(self.heard("status"), Status, limit=UPLINK_LIMIT)

    def presence(self) -> Presence:
        return codec.decode(self.heard("presence"), Presence, limit=UPLINK_LIMIT)

    def result(self) -> UpdateResult:
        return codec.decode(self.heard("update-result"), UpdateResult, limit=UPLINK_LIMIT)

    def receipt(self, result: UpdateResult) -> None:
        topic = RECEIPT.topic(FLEET, id=DEVICE)
        self.ingest.publish(topic, codec.encode(Receipt(spool=result.spool, n=result.n)))

    def depth(self) -> int:
        return len(Spool.peek(self.paths.spool))

    @property
    def service(self) -> int | None:
        path = self.paths.run / "exec.json"
        return json.loads(path.read_text())["pid"] if path.exists() else None

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            # Shown by pytest when the test fails.
            print(process.communicate()[1])
        if (pid := self.service) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        self.hoister.close()
        self.ingest.close()


def hang(handler: BaseHTTPRequestHandler, _data: bytes) -> None:
    """Say nothing until the other side goes away."""
    handler.rfile.read(1)


def exec_release(sequence: int) -> Built:
    return build(
        sequence,
        {"files/bin/service": SERVICE},
        hook="exec",
        info={"exec": {"command": ["files/bin/service"], "stop_seconds": 2}},
    )


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def alive(pid: int | None) -> bool:
    return pid is not None and Path(f"/proc/{pid}").exists()
