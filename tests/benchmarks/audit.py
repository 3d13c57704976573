"""What it costs an action to be audited.

    python -m tests.benchmarks.audit [--json] [--small]

Each action is asked for over HTTP, with its event and with events left out, in turns on one hub. `audit_ratio` is the
worst action's median with events, by its median without. The leader seals events later, many at a time; what that costs
is `seal_us`, microseconds an event.

The last line with `--json` is one object of the figures.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import uvicorn

if not __package__:  # run as a file: the project is two folders up
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from hub import config, events
from hub.app import Server
from hub.caller import Caller
from hub.store import Tx
from tests.benchmarks import options
from tests.benchmarks.registered import device_id, fill, open_world
from tests.e2e.fleet import NotObservedError
from tests.hub.world import World

DEVICES, ROUNDS, SMALL_ROUNDS = 10_000, 300, 10
BOUND = 1.1
Ask = Callable[..., Any]


class Switch:
    """Whether the hub writes events. It is in the way of both sides alike."""

    def __init__(self) -> None:
        self.on = True
        real = events.append

        def append(tx: Tx, event: events.Event, caller: Caller, now: int) -> None:
            if self.on:
                real(tx, event, caller, now)

        for path, module in list(sys.modules.items()):
            if path.startswith("hub."):
                for name, value in list(vars(module).items()):
                    if value is real:
                        setattr(module, name, append)


@contextmanager
def served(world: World) -> Iterator[Ask]:
    """Serve the hub on a port of this machine, and yield what asks it over one connection that stays."""
    listener = config.listen(config.Address("127.0.0.1", 0), 0)
    server = Server(uvicorn.Config(world.app, log_config=None, access_log=False, lifespan="on"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    connection = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=30)
    headers = {"Authorization": f"Bearer {world.token}", "Content-Type": "application/json"}

    def ask(method: str, path: str, body: Any = None) -> Any:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise NotObservedError(f"{method} {path}: {answer.status} {data[:300]!r}")
        return json.loads(data) if data else None

    try:
        yield ask
    finally:
        connection.close()
        server.should_exit = True
        thread.join()
        listener.close()


def actions(world: World, ask: Ask) -> dict[str, Callable[[], object]]:
    """Return what is done, by name; each call does it once, with effect."""
    counter = itertools.count()
    release = world.publish(2)
    ask("POST", f"/releases/{release}/promote", {"targetSegment": "canary", "rolloutPercentage": 0.01})
    policy = {"kind": "drift_age", "max_seconds": 3_600, "role": "other"}

    def widen() -> object:
        share = (next(counter) // 2 + 2) / 100
        return ask(
            "POST", f"/releases/{release}/promote", {"targetSegment": "canary", "rolloutPercentage": share}
        )

    def turn() -> object:
        verb = "pause" if next(counter) % 2 == 0 else "resume"
        return ask("POST", f"/releases/{release}/{verb}", {"reason": "a reason"})

    def change() -> object:
        path = f"/devices/{device_id(next(counter) % DEVICES)}"
        return ask("PATCH", path, {"owner": f"owner {next(counter)}"})

    return {
        "promote": widen,
        "pause, resume": turn,
        "change a device": change,
        "enrolment token": lambda: ask(
            "POST", "/devices/enrolment-tokens", {"role": "kiosk", "segment": "canary"}
        ),
        "API key": lambda: ask("POST", "/api-keys", {"name": "ci"}),
        "policy": lambda: ask("DELETE", f"/policies/{ask('POST', '/policies', policy)['id']}"),
    }


def compared(switch: Switch, action: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the medians (ms) of `action` with events and without."""
    spent: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds):
        # Twice each, so that what is done and undone falls on both sides alike; the other order each round.
        for switch.on in (True, True, False, False) if number % 2 else (False, False, True, True):
            began = time.perf_counter()
            action()
            spent[switch.on].append((time.perf_counter() - began) * 1_000)
    return statistics.median(spent[True]), statistics.median(spent[False])


def seal(world: World) -> float:
    """Return what sealing the events that wait costs, in microseconds each."""
    count, began = 0, time.perf_counter()
    while True:
        with world.store.write() as tx:
            sealed = events.seal(tx)
        if not sealed:
            return (time.perf_counter() - began) * 1e6 / max(1, count)
        count += sealed


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Return the figures of one run."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    world = open_world(folder)
    figures: dict[str, Any] = {}
    fill(world, 0, DEVICES)
    switch = Switch()
    with served(world) as ask:
        for name, action in actions(world, ask).items():
            figures[name] = compared(switch, action, rounds)
    figures["audit_ratio"] = round(max(audited / bare for audited, bare in figures.values()), 3)
    figures["seal_us"] = round(seal(world), 1)
    world.close()
    return figures


def main() -> None:
    """Measure and print."""
    chosen = options.chosen(str(__doc__), ["all"])
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), SMALL_ROUNDS if chosen.small else ROUNDS)
    for name, value in figures.items():
        said = f"{value[0]:.3f} ms, {value[1]:.3f} without events" if isinstance(value, tuple) else value
        bound = f"  (at most {BOUND})" if name == "audit_ratio" else ""
        print(f"  {name:<32} {said}{bound}", file=sys.stderr)
    if chosen.json:
        print(json.dumps({name: value for name, value in figures.items() if not isinstance(value, tuple)}))


if __name__ == "__main__":
    main()
