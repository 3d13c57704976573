"""A relay that counts what goes over a TCP connection, and what an idle program costs its machine."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import threading
from pathlib import Path
from typing import Final, NamedTuple, Self

HEADERS: Final = 52
"""Bytes of IPv4 and TCP (with timestamps) around every segment, those that only acknowledge included."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Relay:
    """Listens at `port` and passes everything to `target` on this machine; counts what comes and goes at `port`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._bytes = 0
        self._near: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._stopping, self._stop = socket.socketpair()
        self._selector.register(self._stopping, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.close()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    @property
    def count(self) -> int:
        """Bytes both ways so far, with the headers of the segments of connections that stand."""
        return self._bytes + HEADERS * sum(_segments(near) for near in self._near if near.fileno() >= 0)

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._stopping:
                    return
                if key.fileobj is self._listener:
                    self._join()
                # The other half of a pair that has just ended may be in the same list.
                elif isinstance(key.fileobj, socket.socket) and key.fileobj.fileno() >= 0:
                    self._pass(key.fileobj, key.data)

    def _join(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(("127.0.0.1", self._target))
        self._near.append(near)
        self._selector.register(near, selectors.EVENT_READ, far)
        self._selector.register(far, selectors.EVENT_READ, near)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = source.recv(65536)
            self._bytes += len(data)
            target.sendall(data)
        if not data:
            for each in (source, target):
                self._selector.unregister(each)
                each.close()


def _segments(connection: socket.socket) -> int:
    """Return how many segments went either way, from the kernel's `struct tcp_info` (segs_out, segs_in)."""
    out, into = struct.unpack_from(
        "=II", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192), 136
    )
    return int(out + into)


class Memory(NamedTuple):
    """Resident and proportional memory of a process, in MiB."""

    rss: float
    pss: float


class Spent(NamedTuple):
    """Since its start: CPU seconds with those of children that ended, and how often the main thread went to sleep."""

    cpu: float
    sleeps: int


def memory(pid: int) -> Memory:
    """Return what a process holds now."""
    found = {
        name: int(text.split()[0])
        for name, text in (
            line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        )
    }
    return Memory(found["Rss"] / 1024, found["Pss"] / 1024)


def spent(pid: int) -> Spent:
    """Return what a process has cost so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    sleeps = int(status["voluntary_ctxt_switches"])
    return Spent(sum(int(ticks) for ticks in fields[11:15]) / _TICKS, sleeps)
