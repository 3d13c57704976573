"""How fast a real `flaghoist-hub up` answers while its ingest takes in a steady rate of heartbeats.

The hub, its Mosquitto with TLS and access list, and the generator are processes of their own. The generator comes in
by the hub's service listener with a certificate of the hub's own CA, and a line in the access list lets it write for
every device: a connection for each would cost this machine more than the hub.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from hub.app import DATABASE
from hub.broker.credentials import service_credentials
from hub.config import number
from hub.identity.ca import open_authorities
from hub.store import SqliteStore
from tests.benchmarks.broker import FLEET, ROOT, peak_mb
from tests.benchmarks.contest import register
from tests.benchmarks.fill import device_names
from tests.e2e.fleet import Fleet, until

GENERATOR: Final = "svc.bench"
PAUSE_S: Final = 0.01
"""Between two requests: a person's dashboard asks, it does not attack."""


def measure(
    folder: Path, *, devices: int, rate: int, seconds: int, say: Callable[[str], None]
) -> dict[str, float]:
    """Return percentiles of two requests (ms) while `rate` messages/s come, and what the hub's process used."""
    fleet = Fleet(folder, FLEET)
    try:
        fleet.start_hub()
        register(fleet.data, devices)
        until("ingest", lambda: _metric(fleet, "flaghoist_ingest_connections_total"))
        quiet = _latencies(fleet, devices, lambda made: made >= 200)
        # Every device has a row before anything is measured.
        _publish(fleet, devices, devices, first=1, rate=0)
        hub = psutil.Process(fleet.hub.pid if fleet.hub else 0)
        rounds = max(1, rate * seconds // devices)
        before, cpu, began = _taken(fleet), sum(hub.cpu_times()[:2]), time.perf_counter()
        generator = _generator(fleet, devices, rounds * devices, first=2, rate=rate)
        busy = _latencies(fleet, devices, lambda _: generator.poll() is not None)
        assert generator.returncode == 0
        until("the last message", lambda: _taken(fleet) - before >= rounds * devices, every=0.01)
        spent = time.perf_counter() - began
        cpu = sum(hub.cpu_times()[:2]) - cpu
        taken = _taken(fleet) - before
        memory = peak_mb(hub.pid)
    finally:
        fleet.close()
    every = sorted(value for values in busy.values() for value in values)
    for name, values in busy.items():
        say(
            f"  {name}: {len(values)} requests, median {statistics.median(values):.1f} ms, p99 {_p99(values):.1f} ms"
        )
    return {
        "api_p99_ms": max(_p99(values) for values in busy.values()),
        "api_p50_ms": statistics.median(every),
        "api_p99_ms_quiet": max(_p99(values) for values in quiet.values()),
        "api_list_p99_ms": _p99(busy["GET /devices"]),
        "api_device_p99_ms": _p99(busy["GET /devices/{id}"]),
        "live_rate": taken / spent,
        "live_cpu": cpu / taken * 1e6,
        "live_memory_mb": memory,
    }


def _latencies(fleet: Fleet, devices: int, enough: Callable[[int], bool]) -> dict[str, list[float]]:
    """Ask for a page and for a device in turns until `enough` of as many requests; return the times (ms)."""
    chance = random.Random(1)
    names = device_names(devices)
    found: dict[str, list[float]] = {"GET /devices": [], "GET /devices/{id}": []}
    connection = http.client.HTTPConnection("127.0.0.1", fleet.http_port, timeout=30)
    headers = {"Authorization": f"Bearer {fleet.environment['FLAGHOIST_TOKEN']}"}
    made = 0
    while not enough(made):
        for name, path in (
            ("GET /devices", "/devices?role=kiosk&limit=50"),
            ("GET /devices/{id}", f"/devices/{chance.choice(names)}"),
        ):
            began = time.perf_counter()
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            found[name].append((time.perf_counter() - began) * 1000)
            assert answer.status == 200, f"{path}: {answer.status} {body[:200]!r}"
            made += 1
            time.sleep(PAUSE_S)
    connection.close()
    return found


def _publish(fleet: Fleet, devices: int, messages: int, *, first: int, rate: int) -> None:
    before = _taken(fleet)
    assert _generator(fleet, devices, messages, first=first, rate=rate).wait() == 0
    until("every message", lambda: _taken(fleet) - before >= messages, seconds=120)


def _generator(
    fleet: Fleet, devices: int, messages: int, *, first: int, rate: int
) -> subprocess.Popen[bytes]:
    """Start `tests.benchmarks.fill` against the hub's own broker, and let it in."""
    services = fleet.data / "services"
    authority = open_authorities(fleet.data / "ca", FLEET, now=int(time.time())).service
    service_credentials(services, authority, GENERATOR, now=int(time.time()))
    access = fleet.data / "broker" / "acl"
    if GENERATOR not in access.read_text():
        with access.open("a") as file:
            file.write(f"\nuser {GENERATOR}\ntopic write {FLEET}/v1/devices/+/up/status\n")
        os.kill(fleet.broker_pid(), signal.SIGHUP)
    store = SqliteStore(fleet.data / DATABASE)
    port = number(store, "service_port")
    store.close()
    command = [sys.executable, "-m", "tests.benchmarks.fill", port, devices, messages, 1, first, rate, 0]
    return subprocess.Popen([*map(str, command), str(services), GENERATOR], cwd=ROOT)


def _taken(fleet: Fleet) -> int:
    """Messages that the hub's ingest has committed."""
    return _metric(fleet, "flaghoist_ingest_messages_total")


def _metric(fleet: Fleet, name: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", fleet.http_port, timeout=30)
    headers = {"Authorization": f"Bearer {fleet.environment['FLAGHOIST_TOKEN']}"}
    connection.request("GET", "/metrics", headers=headers)
    text = connection.getresponse().read().decode()
    connection.close()
    return sum(
        int(float(line.rpartition(" ")[2])) for line in text.splitlines() if line.startswith(name + "{")
    )


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98] if len(values) > 1 else values[0]
