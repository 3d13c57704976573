"""Time until every connected device holds a new manifest, against Mosquitto alone, in the same run and in turns.

The hub is a real one, its broker knows one publisher more: it hoists a message of the manifest's size to the same
devices by itself, which is what Mosquitto alone needs. With the manifest the time runs from the operator's POST, so
decision, signature, database, hoister and the broker's echo are in it.
"""

from __future__ import annotations

import json
import os
import resource
import stat
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

import psutil

from hub.broker.config import BrokerSettings
from hub.broker.credentials import service_credentials
from hub.identity.ca import open_authorities
from tests.benchmarks.subscribers import BENCH_TOPIC, FLEET
from tests.e2e import fleet as e2e
from tests.e2e.broker import service_port
from tests.e2e.fleet import Fleet, NotObservedError
from tests.support.mosquitto import Peer
from topics.channels import Principal

ROOT: Final = Path(__file__).parents[2]
BENCH: Final = "svc.bench"
REST_S: Final = 0.3


def hub_with_bench() -> None:
    """`flaghoist-hub`, whose broker lets the benchmark hoist as well."""
    from hub.main import main

    services: Callable[[BrokerSettings], dict[Principal, list[str]]] = vars(BrokerSettings)["services"].fget

    def more(settings: BrokerSettings) -> dict[Principal, list[str]]:
        known = services(settings)
        return {**known, Principal.HOISTER: [*known[Principal.HOISTER], BENCH]}

    BrokerSettings.services = property(more)  # type: ignore[assignment, method-assign]
    main()


class Subscribers:
    """Their process, until the `with` ends."""

    def __init__(self, fleet: Fleet, port: int, count: int) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.subscribers",
            str(fleet.data),
            str(port),
            str(count),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)

    def __enter__(self) -> Subscribers:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def line(self) -> dict[str, Any]:
        """The next thing that all of them saw."""
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        if not text:
            raise NotObservedError("the subscribers' process ended")
        line: dict[str, Any] = json.loads(text)
        return line

    def until(self, topic: str) -> dict[str, Any]:
        """The next payload on `topic` that all hold."""
        while True:
            line = self.line()
            if line.get("topic") == topic:
                return line


def measure(folder: Path, devices: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the figures of `devices` connected devices: medians of so many rounds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < devices + 500:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(devices + 500, hard), hard))
    fleet = Fleet(folder)
    _own_hub(folder)
    try:
        fleet.start_hub()
        fleet.make_trust()
        fleet.make_repo()
        release = fleet.publish("kiosk", 1)
        port = fleet.get("/health/live") and _device_port(fleet)
        began = time.monotonic()
        with Subscribers(fleet, port, devices) as subscribers:
            assert subscribers.line() == {"connected": devices}
            say(f"  {devices} devices connected ({time.monotonic() - began:.0f} s)")
            now = int(time.time())
            authority = open_authorities(fleet.data / "ca", FLEET, now=now).service
            files = service_credentials(fleet.data / "services", authority, BENCH, now=now)
            with Peer(files, service_port(fleet), BENCH, seconds=60) as peer:
                return _rounds(fleet, release, subscribers, peer, rounds, say)
    finally:
        e2e.BIN = Path(sys.executable).parent
        fleet.close()


def _rounds(
    fleet: Fleet, release: str, subscribers: Subscribers, peer: Peer, rounds: int, say: Callable[[str], None]
) -> dict[str, Any]:
    topic = f"{FLEET}/v1/releases/kiosk/canary"
    subscribers.until(topic)  # what was retained when they came
    _promote(fleet, release, 1)
    size = subscribers.until(topic)["bytes"]
    alone, hub, first = [], [], []
    broker = psutil.Process(fleet.broker_pid())
    for number in range(rounds):
        _rest(broker)
        began = time.monotonic()
        peer.publish(BENCH_TOPIC, os.urandom(size), retain=True)
        alone.append(subscribers.until(BENCH_TOPIC)["last"] - began)
        _rest(broker)
        began = time.monotonic()
        # A growing share is a new manifest each time.
        _promote(fleet, release, 2 + number)
        held = subscribers.until(topic)
        hub.append(held["last"] - began)
        first.append(held["first"] - began)
    ratio = statistics.median(hub) / statistics.median(alone)
    say(
        f"  Mosquitto alone {statistics.median(alone) * 1000:.0f} ms, from the POST "
        f"{statistics.median(hub) * 1000:.0f} ms, the first device after {statistics.median(first) * 1000:.0f} ms; "
        f"{size} bytes"
    )
    return {
        "fanout_ratio_10k": round(ratio, 2),
        "fanout_alone_ms": round(statistics.median(alone) * 1000),
        "fanout_ms": round(statistics.median(hub) * 1000),
        "fanout_first_ms": round(statistics.median(first) * 1000),
    }


def _rest(broker: psutil.Process) -> None:
    """Wait until the broker has nothing to do: the PUBACKs of a round are none of the next one's work."""
    while True:
        before = broker.cpu_times()
        time.sleep(REST_S)
        now = broker.cpu_times()
        if now.user + now.system - before.user - before.system <= REST_S / 10:
            return


def _promote(fleet: Fleet, release: str, percentage: int) -> None:
    body = json.dumps({"targetSegment": "canary", "rolloutPercentage": percentage}).encode()
    headers = {
        "Authorization": f"Bearer {fleet.environment['FLAGHOIST_TOKEN']}",
        "Content-Type": "application/json",
    }
    with urlopen(Request(f"{fleet.url}/releases/{release}/promote", body, headers), timeout=30) as answer:
        assert answer.status == 200


def _device_port(fleet: Fleet) -> int:
    text = (fleet.data / "broker" / "mosquitto.conf").read_text()
    return int(text.split("\nlistener ")[1].split()[0])


def _own_hub(folder: Path) -> None:
    """Let the fleet start the hub of this module, and everything else as it is."""
    programs = folder / "bin"
    programs.mkdir()
    for name in ("flaghoist", "flaghoist-edge"):
        (programs / name).symlink_to(Path(sys.executable).parent / name)
    hub = programs / "flaghoist-hub"
    hub.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.benchmarks.fanout import hub_with_bench\nhub_with_bench()\n"
    )
    hub.chmod(hub.stat().st_mode | stat.S_IXUSR)
    e2e.BIN = programs
