"""The agent as a process of its own, on a real broker with TLS and the access list that the hub renders."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from edge import identity, memory
from edge.identity import Device
from edge.spool import Spool
from tests.edge.world import (
    DESIRED_TOPIC,
    DEVICE,
    FLEET,
    MANIFEST_TOPIC,
    Box,
    Built,
    Source,
    build,
    wait_until,
)
from tests.support.mosquitto import Broker, Peer
from tests.topics import kit
from topics import codec
from topics.channels import RECEIPT, UPLINK_LIMIT
from topics.documents import Command
from topics.messages import Presence, Receipt, Status, UpdateResult

SERVICE = b"#!/bin/sh\necho up\nexec sleep 600\n"
UP = f"{FLEET}/v1/devices/{DEVICE}/up"
RESIDENT_LIMIT_KIB = 31 * 1024


class Rig:
    """A broker with the hub's two voices, and one enrolled device as processes."""

    def __init__(self, folder: Path, broker: Broker, source: Source) -> None:
        self.broker, self.source = broker, source
        self.box = Box(folder, source)
        self.box.close()
        files = broker.device_files(DEVICE, self.box.key)
        device = Device(
            fleet=FLEET,
            device_id=DEVICE,
            mqtt_host="127.0.0.1",
            mqtt_port=broker.device_port,
            http_url=source.url,
            hardware="rpi4",
        )
        self.paths = self.box.paths
        identity.write(
            self.paths,
            device,
            seed=bytes(self.box.key),
            certificate_pem=files.certificate.read_text(),
            ca_pem=files.ca.read_text(),
            unique="test",
        )
        self.hoister: Peer = broker.service("svc.hoister")
        self.ingest: Peer = broker.service("svc.ingest-0")
        self.ingest.subscribe(f"{FLEET}/v1/devices/+/up/#")
        self.processes: list[subprocess.Popen[str]] = []
        self.seen: list[tuple[str, bytes]] = []

    def hoist(self, topic: str, body: bytes) -> None:
        assert self.hoister.publish(topic, body, retain=True) < 0x80

    def command(self, *arguments: str) -> list[str]:
        program = [sys.executable, "-m", "edge.main", arguments[0], "--state", str(self.paths.root)]
        return [*program, *arguments[1:]]

    @property
    def environment(self) -> dict[str, str]:
        quick = {"BACKOFF_BASE_SECONDS": "0.05", "BACKOFF_CAP_SECONDS": "0.3", "LATER_SECONDS": "0.1"}
        return os.environ | {f"FLAGHOIST_EDGE_{name}": value for name, value in quick.items()}

    def run(self) -> subprocess.Popen[str]:
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


@pytest.fixture
def rig(tmp_path: Path, source: Source) -> Iterator[Rig]:
    with Broker(tmp_path / "hub") as broker:
        made = Rig(tmp_path / "edge", broker, source)
        # The hooks that are installed, not those of a test.
        made.paths = type(made.paths)(made.paths.root)
        yield made
        made.close()


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


def test_an_update_from_hoist_to_receipt(rig: Rig) -> None:
    """Also: the service outlives a restart of the agent, and no second copy is started."""
    first = rig.source.add(exec_release(7))
    process = rig.run()
    presence = rig.presence()
    assert presence.state == "online"
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(first))
    began, ended = rig.result(), rig.result()
    assert (began.state, ended.state, ended.release) == ("downloading", "committed", first.id)
    assert (began.n, ended.n) == (1, 2)
    assert rig.depth() == 2
    rig.receipt(ended)
    wait_until(lambda: rig.depth() == 0, what="the receipt")
    service = rig.service
    assert alive(service)

    stop(process)
    assert alive(service)
    while (left := rig.presence()).state != "offline":
        pass
    assert left.session == presence.session

    process = rig.run()
    again = rig.presence()
    assert (again.state, again.session) == ("online", presence.session + 1)
    assert again.boot[0] == presence.boot[0] + 1
    status = rig.status()
    assert status.running is not None and status.running.id == first.id
    wait_until(lambda: rig.status().verdict.reason == "already_installed")  # type: ignore[union-attr]
    assert rig.service == service
    stop(process)


def test_the_connected_agent_stays_below_31_mib(rig: Rig) -> None:
    process = rig.run()
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(None))
    wait_until(lambda: rig.status().trusted_manifest)
    text = Path(f"/proc/{process.pid}/status").read_text()
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", text)[1])  # type: ignore[index]
    threads = int(re.search(r"Threads:\s+(\d+)", text)[1])  # type: ignore[index]
    assert resident <= RESIDENT_LIMIT_KIB, f"{resident} KiB resident"
    assert threads == 1
    stop(process)


def switches(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return sum(int(count) for count in re.findall(r"ctxt_switches:\s+(\d+)", text))


def test_an_idle_agent_sleeps(rig: Rig) -> None:
    """No polling: while nothing happens, nothing wakes it."""
    process = rig.run()
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(None))
    wait_until(lambda: rig.status().trusted_manifest)
    quiet = [switches(process.pid)]

    def settled() -> bool:
        time.sleep(0.3)
        quiet.append(switches(process.pid))
        return quiet[-1] == quiet[-2]

    wait_until(settled)
    before = switches(process.pid)
    time.sleep(1.5)
    assert switches(process.pid) - before <= 1
    stop(process)


def test_sigkill_of_the_agent_leaves_its_will_and_the_service(rig: Rig) -> None:
    first = rig.source.add(exec_release(7))
    process = rig.run()
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(first))
    while rig.result().state != "committed":
        pass
    service = rig.service
    process.kill()
    while rig.presence().state != "offline":
        pass
    assert alive(service)
    rig.run()
    assert rig.presence().state == "online"


def test_the_update_process_dies_with_the_agent_and_the_next_one_goes_on(rig: Rig) -> None:
    first = rig.source.add(exec_release(7))
    rig.source.faults = [hang]
    process = rig.run()
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(first))
    assert rig.result().state == "downloading"
    wait_until(lambda: rig.source.requests)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    child = int(wait_until(lambda: children.read_text().split())[0])
    process.kill()
    wait_until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text())
    process.wait()
    rig.run()
    results = [rig.result(), rig.result()]
    while results[-1].state != "committed":
        results.append(rig.result())
    assert {(result.n, result.state) for result in results} == {(1, "downloading"), (2, "committed")}


def test_a_killed_update_process_is_started_again(rig: Rig) -> None:
    first = rig.source.add(exec_release(7))
    rig.source.faults = [hang]
    process = rig.run()
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(first))
    wait_until(lambda: rig.source.requests)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    while rig.result().state != "committed":
        pass
    stop(process)


def test_an_agent_without_a_broker_keeps_running_and_connects_when_it_is_back(rig: Rig) -> None:
    rig.hoister.close()
    rig.ingest.close()
    rig.broker.stop()
    process = rig.run()
    assert process.stderr is not None
    line = process.stderr.readline()
    while "not connected" not in line:
        line = process.stderr.readline()
    rig.broker.start()
    rig.ingest = rig.broker.service("svc.ingest-0")
    rig.hoister = rig.broker.service("svc.hoister")
    rig.ingest.subscribe(f"{FLEET}/v1/devices/+/up/#")
    wait_until(lambda: rig.presence().state == "online")
    assert process.poll() is None
    stop(process)


def test_restart_agent_starts_the_agent_anew(rig: Rig) -> None:
    process = rig.run()
    boot = rig.status().boot[0]
    command = Command(id="c-9", kind="restart-agent", expires_at=int(time.time() * 1000) + kit.DAY)
    rig.hoist(DESIRED_TOPIC, kit.signed_desired(rig.box.numbers.next(), commands=[command]))
    wait_until(lambda: rig.status().boot[0] == boot + 1)
    assert process.poll() is None
    stop(process)
    assert memory.need(rig.paths).done == ["c-9"]


def test_once_updates_reports_and_says_when_it_wakes(rig: Rig) -> None:
    first = rig.source.add(exec_release(7))
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(first))
    process = subprocess.Popen(rig.command("once"), env=rig.environment, stderr=subprocess.PIPE, text=True)
    rig.processes.append(process)
    while (result := rig.result()).state != "committed":
        pass
    rig.receipt(result)
    assert process.wait(30) == 0
    presence = rig.presence()
    while presence.state != "sleeping":
        presence = rig.presence()
    assert presence.next_wake > time.time() + 200
    assert rig.depth() == 0


def test_once_says_that_nobody_answers(rig: Rig) -> None:
    rig.broker.stop()
    os.environ["FLAGHOIST_EDGE_SETTLE_SECONDS"] = "0.5"
    try:
        done = rig.ask("once")
    finally:
        del os.environ["FLAGHOIST_EDGE_SETTLE_SECONDS"]
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1].startswith("flaghoist-edge: no broker answers at 127.0.0.1:")


def test_two_agents_do_not_share_a_state_directory(rig: Rig) -> None:
    process = rig.run()
    rig.presence()
    done = rig.ask("once")
    assert done.returncode == 3
    assert "another flaghoist-edge works in" in done.stderr
    process.kill()
    process.wait()
    rig.run()
    assert rig.presence().state, "D5: a lock of a killed process blocks nobody"


def test_status_shows_what_runs(rig: Rig) -> None:
    first = rig.source.add(exec_release(7))
    process = rig.run()
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(first))
    while rig.result().state != "committed":
        pass
    values = json.loads(rig.ask("status", "--json").stdout)
    assert (values["running"], values["service"], values["reports_waiting"]) == (first.id, "ok", 2)
    assert f"running   {first.id} (version 1.7.0)" in rig.ask("status").stdout
    stop(process)


def test_a_lost_memory_says_what_to_do(rig: Rig) -> None:
    for path in rig.paths.root.glob("memory*"):
        path.unlink()
    done = rig.ask("run")
    assert done.returncode == 3
    assert done.stderr.strip().endswith("run flaghoist-edge enrol again")
