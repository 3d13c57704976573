"""One drain by Flaghoist's ingest, in a process of its own so that memory and CPU are its own.

    python -m tests.benchmarks.drain FOLDER PORT TLS MESSAGES

Prints one JSON object. FOLDER has `hub.db` with the devices in it, and the TLS files; 0 messages make the session.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from pathlib import Path

from hub.broker.credentials import Credentials
from hub.broker.ingest import Ingest, IngestSettings, Summary
from hub.store import SqliteStore
from hub.times import now_ms
from tests.benchmarks.broker import FLEET


class Plain:
    """No TLS."""

    def context(self) -> None:
        """Return none."""


def main() -> None:
    folder, port, tls, messages = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "tls", int(sys.argv[4])
    name = IngestSettings(FLEET, port).name
    files = Credentials(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key")
    store = SqliteStore(folder / "hub.db")
    done = threading.Event()
    first: list[float] = []

    def count(_: Summary) -> None:
        if not first:
            first.append(time.perf_counter())
        if slot.taken >= messages:
            done.set()

    slot = Ingest(store, IngestSettings(FLEET, port), files if tls else Plain(), now=now_ms, on_commit=count)
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    slot.start()
    while not messages and not slot.connections:
        time.sleep(0.01)
    if messages:
        print("ready", flush=True)
        assert done.wait(600), f"only {slot.taken} of {messages} messages came"
    ended = time.perf_counter()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    slot.stop()
    store.close()
    cpu = usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime
    print(
        json.dumps(
            {
                "seconds": ended - began,
                "live_seconds": ended - (first or [began])[0],
                "cpu": cpu,
                "rss": usage.ru_maxrss,
                "taken": slot.taken,
                "refused": slot.refused,
            }
        )
    )


if __name__ == "__main__":
    main()
