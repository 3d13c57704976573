"""A socket that may be neither silent nor slow for long, nor go on for ever."""

from __future__ import annotations

import io
import socket
import time
from typing import Any


class Paced:
    """A socket whose every read counts: none may wait longer than `stall` s, the average over longer times
    may not fall below `floor` bytes/s, and nothing goes on after `end`. Covers headers as well as bodies."""

    def __init__(self, sock: socket.socket, stall: float, floor: int) -> None:
        self._sock = sock
        self._stall = stall
        self._floor = floor
        self.begin(time.monotonic() + stall)

    def begin(self, end: float) -> None:
        """Begin a request, which has until the monotonic time `end`; what came before it counts no more."""
        self._end = end
        self._start = time.monotonic()
        self._received = 0

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        """Return what an answer is read from; it keeps the socket open until it is closed itself."""
        return io.BufferedReader(_PacedFile(self, self._sock.makefile("rb", buffering=0)))

    def read_into(self, raw: socket.SocketIO, buffer: Any) -> int:
        """Read once; raises `TimeoutError` when the sender is too slow."""
        now = time.monotonic()
        passed = now - self._start
        if now >= self._end:
            raise TimeoutError("the time for downloading is over")
        if passed > self._stall and self._received < self._floor * passed:
            raise TimeoutError(f"it sends less than {self._floor} bytes/s")
        self._sock.settimeout(min(self._stall, self._end - now))
        size = raw.readinto(buffer) or 0
        self._received += size
        return size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _PacedFile(io.RawIOBase):
    def __init__(self, paced: Paced, raw: socket.SocketIO) -> None:
        self._paced = paced
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._paced.read_into(self._raw, buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
