"""Who drains a backlog how fast: the same messages queued for each, then taken one after the other.

The generator has ended before anybody drains, so it competes with nobody. What is compared is drained in interleaved
rounds, each time in the other order, since a shared machine is not equally fast from one minute to the next.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from hub.store import SqliteStore
from tests.benchmarks.broker import ROOT, Broker, Drained, drained
from tests.benchmarks.fill import device_names


class Contender(Protocol):
    """Who can drain a broker."""

    def __call__(self, broker: Broker, messages: int) -> Drained:
        """Take in `messages` from this contender's session, which 0 messages make."""


def mosquitto_sub(broker: Broker, messages: int) -> Drained:
    """The C client, discarding."""
    return broker.mosquitto_sub(messages)


def mosquitto_sub_tls(broker: Broker, messages: int) -> Drained:
    """The same over TLS."""
    return broker.mosquitto_sub(messages, tls=True)


def flaghoist(broker: Broker, messages: int) -> Drained:
    """The hub's ingest with everything on."""
    return _run("drain", broker.folder, broker.port, "plain", messages, of=messages)


def flaghoist_tls(broker: Broker, messages: int) -> Drained:
    """The same over TLS."""
    return _run("drain", broker.folder, broker.tls_port, "tls", messages, of=messages)


def with_paho(broker: Broker, messages: int) -> Drained:
    """paho and SQLite."""
    return _run("clients", "paho", broker.port, messages, broker.folder / "paho.db", of=messages)


def with_aiomqtt(broker: Broker, messages: int) -> Drained:
    """aiomqtt and SQLite."""
    return _run("clients", "aiomqtt", broker.port, messages, broker.folder / "aiomqtt.db", of=messages)


def start(module: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a module of this folder."""
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def figures(process: subprocess.Popen[str]) -> dict[str, float]:
    """Return what a module printed last, once it has ended."""
    output, _ = process.communicate()
    assert process.returncode == 0, f"{process.args!r} ended with {process.returncode}"
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def _run(module: str, *arguments: object, of: int) -> Drained:
    found = figures(start(module, *arguments))
    return drained(of, found["seconds"], found["cpu"], found["memory"])


class Contest(NamedTuple):
    """Figures by contender's name, one for each round."""

    rounds: dict[str, list[Drained]]

    def median(self, name: str) -> Drained:
        """The median of each figure."""
        return Drained(*map(statistics.median, zip(*self.rounds[name], strict=True)))

    def ratio(self, name: str, against: str) -> float:
        """The median of how many times as fast one was as the other in the same round."""
        pairs = zip(self.rounds[name], self.rounds[against], strict=True)
        return statistics.median(mine.rate / theirs.rate for mine, theirs in pairs)


def register(folder: Path, devices: int) -> None:
    """Make a hub's database in `folder` with the fleet that `fill` publishes for."""
    store = SqliteStore(folder / "hub.db")
    with store.write() as tx:
        tx.executemany(
            "INSERT INTO devices (device_id, public_key, role, segment, update_interval, created_at, updated_at) "
            "VALUES (?, ?, 'kiosk', 'canary', 60, 0, 0)",
            [(name, b"k" * 32) for name in device_names(devices)],
        )
    store.close()


def hold(
    folder: Path,
    contenders: Sequence[Contender],
    *,
    devices: int,
    messages: int,
    rounds: int,
    say: Callable[[str], None],
) -> Contest:
    """Let `contenders` drain `messages` of `devices`, `rounds` times after one round that does not count.

    That first one leaves every device with a row, as in a fleet that has been running.
    """
    assert messages % devices == 0
    found: dict[str, list[Drained]] = {_name(each): [] for each in contenders}
    with Broker(folder) as broker:
        register(folder, devices)
        for contender in contenders:
            contender(broker, 0)
        for number in range(rounds + 1):
            publishing = broker.fill(devices, messages, first=1 + number * (messages // devices))
            assert publishing.wait() == 0
            for contender in contenders if number % 2 else reversed(contenders):
                drain = contender(broker, messages)
                if number:
                    found[_name(contender)].append(drain)
            if number:
                rates = ", ".join(f"{name} {drains[-1].rate:,.0f}" for name, drains in found.items())
                say(f"  {devices:,} devices, round {number}: {rates}")
    return Contest(found)


def _name(contender: Contender) -> str:
    name: str = getattr(contender, "__name__")  # noqa: B009
    return name
