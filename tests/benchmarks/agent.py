"""What the agent costs a device that has nothing to do: memory, wake-ups, CPU, bytes.

One real Mosquitto over TLS, and on it, at one time: `flaghoist-edge run` with a release that it keeps running, and a
bare script that holds the same kind of connection with the same libraries loaded. Beside them the daemon of
mender-client (Debian's package, if it is installed), whose server does not answer. All are left alone for the same
minutes. Then `flaghoist-edge once`, several times, with nothing new to hear.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

if __package__ in (None, ""):  # run by its path
    sys.path.insert(0, str(Path(__file__).parents[2]))

from edge.config import Paths
from edge.identity.identity import Device
from edge.storage import records
from tests.benchmarks import options, wire
from tests.edge.rig import Rig
from tests.edge.world import DESIRED_TOPIC, MANIFEST_TOPIC, Built, Source, build
from tests.support.mosquitto import Broker

PARTS: Final = ("idle", "once")
MINUTES: Final = 10.0
"""A whole number of heartbeats at five minutes, and of checks of the release."""
SETTLE: Final = 10.0
"""Seconds that pass before the idle minutes begin."""
BARE: Final = """
import ssl, sys, time
import msgpack, nacl.signing, psutil
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
port, ca, certificate, key = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.load_verify_locations(ca)
context.load_cert_chain(certificate, key)
client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="bare-1", protocol=mqtt.MQTTv5)
client.tls_set_context(context)
client.on_connect = lambda *_: print("connected", flush=True)
client.connect("127.0.0.1", int(port), 240)
client.loop_forever(timeout=60)
"""
SERVICE_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
"""What systemd gives to services; a wrapper like pyenv's starts a dozen shells for every Python."""
MENDER: Final = {
    "ServerURL": "https://127.0.0.1:9",
    "TenantToken": "none",
    "UpdatePollIntervalSeconds": 1800,
    "InventoryPollIntervalSeconds": 28800,
    "RetryPollIntervalSeconds": 300,
    "DBus": {"Enabled": False},
}
"""Intervals of the example for production that comes with the package; nothing listens at that port."""

Row = dict[str, float]


class Placed(Rig):
    """A device with a release committed and reported, whose way to the broker leads through a relay."""

    def __init__(self, folder: Path, broker: Broker, source: Source, relay: wire.Relay) -> None:
        super().__init__(folder, broker, source)
        self.paths = Paths(self.paths.root)
        built = source.add(lasting_release())
        self.hoist(DESIRED_TOPIC, self.box.desired)
        self.hoist(MANIFEST_TOPIC, self.box.manifest(built))
        process = self.run()
        while (result := self.result()).state != "committed":
            pass
        self.receipt(result)
        process.terminate()
        process.wait()
        self.through(relay.port)

    def through(self, port: int) -> None:
        """Lead the device's connection to `port`."""
        path = self.paths.identity.resolve() / "device"
        device, _ = records.load(path, Device)
        assert device is not None
        records.save(path, records.changed(device, mqtt_port=port))

    def quiet(self, verb: str) -> subprocess.Popen[bytes]:
        """Start the agent as a device would, with settings of its own only."""
        return subprocess.Popen(
            self.command(verb), env=compiled(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def lasting_release() -> Built:
    """Return a release whose service outlives the measuring: one that ends is started anew, and told of."""
    service = b"#!/bin/sh\nexec sleep 7200\n"
    info = {"exec": {"command": ["files/bin/service"], "stop_seconds": 2}}
    return build(7, {"files/bin/service": service}, hook="exec", info=info)


def compiled() -> dict[str, str]:
    """Return the environment of a service on a device: Python keeps what it has compiled, as it does where a wheel was
    installed, and hooks find the system's programs, not a developer's wrappers of them."""
    kept = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PATH": SERVICE_PATH}


def bare(broker: Broker) -> subprocess.Popen[bytes]:
    """Start the script that only holds a connection."""
    files = broker.device_files("bare-1")
    paths = (files.ca, files.certificate, files.key)
    command = [sys.executable, "-c", BARE, str(broker.device_port), *map(str, paths)]
    process = subprocess.Popen(command, env=compiled(), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"connected\n"
    return process


def mender(folder: Path) -> subprocess.Popen[bytes] | None:
    """Start Mender's daemon on a data folder of its own, if it is installed."""
    program = shutil.which("mender")
    if program is None:
        return None
    (folder / "data").mkdir(parents=True)
    (folder / "device_type").write_text("device_type=bench\n")
    config = {**MENDER, "DeviceTypeFile": str(folder / "device_type")}
    (folder / "mender.conf").write_text(json.dumps(config))
    given = ("--config", folder / "mender.conf", "--data", folder / "data", "--no-syslog")
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([program, *map(str, given), "daemon"], stdout=log, stderr=log)


@contextlib.contextmanager
def ended(processes: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """End the processes of the list, whatever happens."""
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def idle(device: Placed, relay: wire.Relay, folder: Path, minutes: float) -> dict[str, Row]:
    """Leave all of them alone for some minutes; return what each cost."""
    device.quiet("once").wait()  # compiles, once for all
    while device.presence().state != "sleeping":
        pass
    running = {"Flaghoist": device.quiet("run")}
    with ended(list(running.values())):
        while device.presence().state != "online":
            pass
        running["bare script"] = bare(device.broker)
        other = mender(folder / "mender")
        if other is not None:
            running["mender"] = other
        with ended(list(running.values())[1:]):
            time.sleep(SETTLE)
            before = {name: wire.spent(process.pid) for name, process in running.items()}
            moved = relay.count
            time.sleep(minutes * 60)
            moved = relay.count - moved
            after = {name: wire.spent(process.pid) for name, process in running.items()}
            held = {name: wire.memory(process.pid) for name, process in running.items()}
    rows: dict[str, Row] = {}
    for name in running:
        rows[name] = {
            "rss": held[name].rss,
            "pss": held[name].pss,
            "wakeups": (after[name].sleeps - before[name].sleeps) / minutes,
            "cpu_hour": (after[name].cpu - before[name].cpu) * 60 / minutes,
        }
    rows["Flaghoist"]["bytes_day"] = moved * 1440 / minutes
    return rows


def rounds(device: Placed, times: int) -> Row:
    """Return CPU and wall seconds of `once` (medians), its update process included."""
    cpu, wall = [], []
    device.quiet("once").wait()  # compiles, once for all
    for _ in range(times):
        began = time.perf_counter()
        process = device.quiet("once")
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, f"once ended with {process.returncode}"
        wall.append(time.perf_counter() - began)
        cpu.append(usage.ru_utime + usage.ru_stime)
    return {"cpu": statistics.median(cpu), "wall": statistics.median(wall)}


def figures(rows: dict[str, Row]) -> dict[str, float]:
    """Return the named figures of the idle minutes."""
    ours, plain = rows["Flaghoist"], rows["bare script"]
    found = {
        "rss_mb": ours["rss"],
        "pss_mb": ours["pss"],
        "rss_ratio_bare": ours["rss"] / plain["rss"],
        "wakeups_per_min": ours["wakeups"],
        "cpu_seconds_hour": ours["cpu_hour"],
        "idle_bytes_day": ours["bytes_day"],
    }
    if "mender" in rows:
        found["rss_ratio_mender"] = ours["rss"] / rows["mender"]["rss"]
        found["rss_mb_mender"] = rows["mender"]["rss"]
    return found


def show(rows: dict[str, Row]) -> None:
    """Print the table of the idle minutes."""
    print("| program | RSS MiB | PSS MiB | wake-ups/min | CPU s/hour |", file=sys.stderr)
    print("| --- | ---: | ---: | ---: | ---: |", file=sys.stderr)
    for name, row in rows.items():
        cells = f"{row['rss']:.1f} | {row['pss']:.1f} | {row['wakeups']:.1f} | {row['cpu_hour']:.2f}"
        print(f"| {name} | {cells} |", file=sys.stderr)


def main() -> None:
    """Measure and print."""
    chosen = options.chosen("What the agent costs an idle device.", PARTS)
    found: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flaghoist-agent-")))
        folder.chmod(0o755)  # Mosquitto may run as another user
        broker = stack.enter_context(Broker(folder / "hub"))
        relay = stack.enter_context(wire.Relay(broker.device_port))
        source = Source()
        stack.callback(source.close)
        device = Placed(folder / "edge", broker, source, relay)
        stack.callback(device.close)
        if "idle" in chosen.parts:
            rows = idle(device, relay, folder, 0.25 if chosen.small else MINUTES)
            show(rows)
            found |= figures(rows)
        if "once" in chosen.parts:
            cost = rounds(device, 2 if chosen.small else 9)
            found |= {"once_cpu_s": cost["cpu"], "once_wall_s": cost["wall"]}
            print(f"once: {cost['cpu']:.3f} s CPU, {cost['wall']:.2f} s wall", file=sys.stderr)
    if chosen.json:
        print(json.dumps({name: round(value, 4) for name, value in found.items()}))


if __name__ == "__main__":
    main()
