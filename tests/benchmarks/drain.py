"""One drain by Flaghoist's ingest, in a process of its own so that memory and CPU are its own.

    python -m tests.benchmarks.drain FOLDER PORT TLS MESSAGES

Everything is on that `hub.app` has around ingest: raw lines to NDJSON files, and leader, summaries and streams that
every commit wakes. Left out are HTTP, and the hoister's connection: summaries are counted, but not published.
Prints one JSON object. FOLDER has `hub.db` with the devices in it, and the TLS files; 0 messages make the session.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from hub.broker.credentials import Credentials
from hub.broker.handon import hand_on
from hub.broker.ingest import Ingest, IngestSettings, Summary
from hub.deployment.service import Deployment
from hub.leader import Leader
from hub.pulse import Pulse
from hub.recovery.rules import Limits
from hub.recovery.watch import Watch
from hub.signer import Signer
from hub.store import SqliteStore
from hub.streams import Streams
from hub.telemetry.sinks import Lines, Ndjson
from hub.times import now_ms
from tests.benchmarks.broker import FLEET, peak_mb

PATIENCE_S = 120


class Plain:
    """No TLS."""

    def context(self) -> None:
        """Return none."""


class Untold:
    """In place of the hoister: summaries go nowhere."""

    def tell(self, topic: str, payload: bytes) -> None:
        """Forget `payload`."""


async def drain(folder: Path, port: int, *, tls: bool, messages: int) -> dict[str, Any]:
    """Take in `messages` and return what it took."""
    name = IngestSettings(FLEET, port).name
    files = Credentials(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key")
    store = SqliteStore(folder / "hub.db")
    lines = Lines([Ndjson(folder / "lines", now=now_ms)])
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    first: list[float] = []

    def count(_: Summary) -> None:
        if not first:
            first.append(time.perf_counter())
        if slot.taken >= messages:
            loop.call_soon_threadsafe(done.set)

    slot = Ingest(
        store,
        IngestSettings(FLEET, port),
        files if tls else Plain(),
        now=now_ms,
        on_commit=count,
        on_arrivals=partial(hand_on, lines),
    )
    with contextlib.ExitStack() as stack:
        stack.callback(store.close)
        stack.callback(lines.stop)
        lines.start()
        others = _others(store, lambda: slot.observed_since)
        before = resource.getrusage(resource.RUSAGE_SELF)
        began = time.perf_counter()
        slot.start()
        if messages:
            print("ready", flush=True)
            await asyncio.wait_for(done.wait(), PATIENCE_S)
        else:
            while not slot.connections:
                await asyncio.sleep(0.01)
        ended = time.perf_counter()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.to_thread(slot.stop)
        await loop.shutdown_default_executor()  # a count that was under way still reads the store
    return {
        "seconds": ended - began,
        "live_seconds": ended - (first or [began])[0],
        "cpu": usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime,
        "memory": peak_mb(),
        "taken": slot.taken,
        "refused": slot.refused,
    }


def _others(store: SqliteStore, observed_since: Callable[[], int]) -> list[asyncio.Task[None]]:
    """Start what every commit wakes."""
    signer = Signer(FLEET, SigningKey.generate())
    deployment = Deployment(store, signer, [], now_ms, observed_since)
    leader = Leader(store, deployment, Watch(store, signer, now_ms, Limits()), observed_since)
    streams = Streams(store)
    hoister: Any = Untold()
    pulse = Pulse(store, FLEET, hoister, streams, observed_since)
    streams.start()
    for wake in (leader.wake, pulse.wake, streams.wake):
        store.on_commit(wake)
    return [asyncio.create_task(leader.run()), asyncio.create_task(pulse.run())]


def main() -> None:
    folder, port, tls, messages = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "tls", int(sys.argv[4])
    print(json.dumps(asyncio.run(drain(folder, port, tls=tls, messages=messages))))


if __name__ == "__main__":
    main()
