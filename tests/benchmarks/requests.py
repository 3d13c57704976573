"""A hub's HTTP side as a process of its own, and how fast it answers.

python -m tests.benchmarks.requests FOLDER      (the server: prints its port)
"""

from __future__ import annotations

import asyncio
import http.client
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import uvicorn
from litestar import get

from hub import config, logs
from hub.app import Server
from hub.desired import hoist_desired
from tests.benchmarks.registered import ADMIN, open_world
from tests.e2e.fleet import NotObservedError
from tests.hub.world import World

ROOT: Final = Path(__file__).parents[2]
CONNECTIONS: Final = 8
SECONDS, SMALL_SECONDS = 3.0, 0.3
ROUNDS, SMALL_ROUNDS = 5, 3
PAGES: Final = 15
ASKED: Final = 1000
"""Devices that eligibility is asked of."""
ANSWER: Final = {
    "device_id": "shop-0000042",
    "release": "kiosk-1-aaaaaaaaaaaa",
    "reason": "already_installed",
}


@get("/bare", opt={"access": "public"})
async def bare() -> dict[str, str]:
    """A handler that does nothing."""
    return ANSWER


@get("/bare-of-an-operator", opt={"access": "viewer"})
async def bare_of_an_operator() -> dict[str, str]:
    """A handler that does nothing, for who has a token."""
    return ANSWER


async def serve(folder: Path) -> None:
    """Serve the hub in `folder` until killed."""
    logs.configure(terminal=False)
    world = open_world(folder)
    for handler in (bare, bare_of_an_operator):
        world.app.register(handler)
    listener = config.listen(config.Address("127.0.0.1", 0), 0)
    print(listener.getsockname()[1], flush=True)
    await Server(uvicorn.Config(world.app, log_config=None, access_log=False, lifespan="on")).serve(
        [listener]
    )


class Serving:
    """The server's process, until the `with` ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = (folder / "admin.token").read_text().strip()
        self.port = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.requests", str(self.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def connection(self) -> http.client.HTTPConnection:
        """A connection that stays."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, connection: http.client.HTTPConnection, path: str) -> bytes:
        """GET `path` as the admin."""
        connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise NotObservedError(f"GET {path}: {answer.status} {body[:300]!r}")
        return body


def pages(serving: Serving) -> dict[str, float]:
    """Return the median time (ms) of the first page of 100 devices, by filter."""
    filters = ["", "role=kiosk", "role=gateway", "segment=canary", "segment=general"]
    filters += [
        f"role={role}&segment={segment}" for role in ("kiosk", "gateway") for segment in ("canary", "general")
    ]
    connection = serving.connection()
    found = {}
    for name in filters:
        spent = []
        for _ in range(PAGES):
            began = time.perf_counter()
            serving.ask(connection, f"/devices?limit=100&{name}")
            spent.append((time.perf_counter() - began) * 1000)
        found[name or "without a filter"] = statistics.median(spent)
    return found


def prepare(world: World, sequence: int) -> list[str]:
    """Promote a release to the canaries and return the paths that ask whether each of them takes it.

    Registration hoists a desired state for every device; filling in bulk does not, so those asked about get theirs.
    """
    release = world.publish(sequence)
    world.now += 1000
    world.deployment.promote(release, "canary", 100, ADMIN)
    with world.store.write() as tx:
        rows = tx.all(
            "SELECT device_id FROM devices WHERE role = 'kiosk' AND segment = 'canary' ORDER BY device_id LIMIT :most",
            {"most": ASKED},
        )
        for row in rows:
            hoist_desired(tx, world.signer, row["device_id"], world.now)
    return [f"/releases/{release}/eligibility/{row['device_id']}" for row in rows]


def eligibility(
    serving: Serving, asked: list[str], say: Callable[[str], None], *, small: bool
) -> dict[str, Any]:
    """Return requests/s of eligibility, of the paths `asked`, against the bare handlers: medians of turns."""
    paths: dict[str, Callable[[int], str]] = {
        "bare": lambda _: "/bare",
        "bare_of_an_operator": lambda _: "/bare-of-an-operator",
        "eligibility": lambda n: asked[n % len(asked)],
    }
    rounds, seconds = (SMALL_ROUNDS, SMALL_SECONDS) if small else (ROUNDS, SECONDS)
    rates: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(rounds):
        for name, path in paths.items():
            rates[name].append(asyncio.run(_load(serving, path, seconds)))
    rate = {name: statistics.median(found) for name, found in rates.items()}
    for name, value in rate.items():
        say(f"  {name:<22} {value:8,.0f} requests/s")
    return {
        "eligibility_ratio": round(rate["eligibility"] / rate["bare"], 2),
        "eligibility_ratio_with_token": round(rate["eligibility"] / rate["bare_of_an_operator"], 2),
        "eligibility_rate": round(rate["eligibility"]),
    }


async def _load(serving: Serving, path: Callable[[int], str], seconds: float) -> float:
    """Requests/s over `CONNECTIONS` connections, each with one request under way."""
    stop = time.monotonic() + seconds
    counts = await asyncio.gather(*(_one(serving, path, number, stop) for number in range(CONNECTIONS)))
    return sum(counts) / seconds


async def _one(serving: Serving, path: Callable[[int], str], number: int, stop: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
    done = 0
    while time.monotonic() < stop:
        target = path(number + done * CONNECTIONS)
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {serving.token}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise NotObservedError(f"GET {target}: {head[:200]!r}")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        done += 1
    writer.close()
    return done


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
