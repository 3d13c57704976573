"""Ingest in a process of its own, to be killed: the real `Ingest` with the real store, and a ledger beside it.

    python -m tests.support.ingest_process FOLDER PORT BATCH LEDGER MOMENT NUMBER

Before anything is acknowledged to the broker it is written to LEDGER, a line each: device, boot counter, seq, spool, n.
So whatever the broker was told to forget is in it, however the process ended. With a MOMENT it kills itself (SIGKILL,
as from outside) at that moment of commit NUMBER: a few hundred microseconds that nobody hits from outside.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from hub.broker.credentials import Credentials
from hub.broker.ingest import Ingest, IngestSettings
from hub.broker.session import Session
from hub.store import SqliteStore, Tx
from hub.times import now_ms
from tests.support.mosquitto import FLEET, Broker

ROOT: Final = Path(__file__).parents[2]
MOMENTS: Final = ("uncommitted", "unacknowledged", "half-acknowledged", "unreceipted")
NEVER: Final = "never"


class Entry(NamedTuple):
    """One acknowledged message. A heartbeat has a seq, a report a spool and n."""

    device_id: str
    boot: int
    seq: int
    spool: str
    n: int


class _Numbers(msgspec.Struct):
    boot: tuple[int, str]
    seq: int = 0
    spool: str = "-"
    n: int = 0


class IngestProcess:
    """One life of ingest."""

    def __init__(self, broker: Broker, folder: Path, life: int, batch: int, moment: str = NEVER) -> None:
        broker.service_files(IngestSettings(FLEET, 0).name)
        self.ledger = folder / f"ledger-{life}"
        self.ledger.touch()
        port = str(broker.service_port)
        number = str(1 + life % 2)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder), port, str(batch), str(self.ledger), moment, number],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )

    @property
    def written(self) -> int:
        """Bytes in the ledger: grows with what was acknowledged."""
        return self.ledger.stat().st_size

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL; what it was doing stays half done."""
        self._process.kill()
        self._process.wait()

    def acknowledged(self) -> list[Entry]:
        """Return what this life acknowledged, in order."""
        # A last line that is not whole was still being written, so nothing after it was done.
        whole = self.ledger.read_text().rpartition("\n")[0]
        lines = (line.split() for line in whole.splitlines())
        return [Entry(device, int(boot), int(seq), spool, int(n)) for device, boot, seq, spool, n in lines]


def main() -> None:
    folder, port, batch, ledger = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    settings = IngestSettings(FLEET, port, batch=batch)
    names = ("service-ca.pem", f"{settings.name}.pem", f"{settings.name}.key")
    files = Credentials(*[folder / "services" / name for name in names])
    store = _Watched(folder / "hub.db", ledger, sys.argv[5], int(sys.argv[6]))
    Ingest(store, settings, files, now=now_ms).start()
    threading.Event().wait()


class _Watched(SqliteStore):
    """The store, with what comes after each commit written down, and the end at the moment that was asked for."""

    def __init__(self, path: Path, ledger: Path, moment: str, number: int) -> None:
        super().__init__(path)
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND)
        self._moment, self._number = moment, number
        self._commits = 0
        acknowledge = Session.acknowledge

        def watched(session: Session, count: int) -> None:
            self._write_down(session, count)
            self._end_at("unacknowledged")
            if self._is_at("half-acknowledged"):
                acknowledge(session, count // 2)
                self._end_at("half-acknowledged")
            acknowledge(session, count)
            self._end_at("unreceipted")

        patched: Any = Session
        patched.acknowledge = watched

    @contextmanager
    def write(self) -> Iterator[Tx]:
        with super().write() as tx:
            yield tx
            self._commits += 1
            self._end_at("uncommitted")

    def _is_at(self, moment: str) -> bool:
        return self._moment == moment and self._commits == self._number

    def _end_at(self, moment: str) -> None:
        if self._is_at(moment):
            os.kill(os.getpid(), signal.SIGKILL)

    def _write_down(self, session: Session, count: int) -> None:
        lines = []
        for arrival in session.pending[:count]:
            numbers = _decode(arrival.payload)
            device_id = arrival.topic.split("/")[-3]
            lines.append(f"{device_id} {numbers.boot[0]} {numbers.seq} {numbers.spool} {numbers.n}\n")
        os.write(self._ledger, "".join(lines).encode())


_decode: Final = msgspec.msgpack.Decoder(_Numbers).decode

if __name__ == "__main__":
    main()
