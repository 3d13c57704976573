"""Heartbeats that nobody could hear, kept until somebody can: bounded by bytes and age, the oldest go first.

The hub puts each where it belongs in time, and counts it once however often it comes, so they are sent again when it
is not certain that they arrived. They are worth less than the disk: nothing is forced to it, and one that refuses is
passed over.
"""

from __future__ import annotations

import contextlib
from collections import deque
from pathlib import Path
from typing import Final

import msgspec

from edge.storage import disk, frames

MAX_BYTES: Final = 256 * 1024
"""Some 400 heartbeats, more than a day of them at five minutes."""
MAX_AGE: Final = 48 * 3600
"""Seconds; the hub keeps five-minute figures as long."""


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """A heartbeat made at `at` (s, by the device's clock)."""

    at: int
    body: bytes


class Beats:
    """The heartbeats that wait, oldest first. One process writes the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: deque[Kept] = deque()
        self._size = 0
        with contextlib.suppress(OSError):
            for body in frames.unpack(path.read_bytes()):
                if body is None:
                    break
                with contextlib.suppress(msgspec.MsgspecError):
                    self._add(msgspec.msgpack.decode(body, type=Kept))

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, at: int, body: bytes) -> None:
        """Keep one more; what is too old by then, or too much, goes."""
        new = Kept(at, body)
        self._add(new)
        if self._size > MAX_BYTES:
            # Some more than is needed, so that the file is not written anew each time.
            self._drop_until(MAX_BYTES * 3 // 4)
            self._rewrite()
        elif self._kept[0].at < at - MAX_AGE:
            while self._kept[0].at < at - MAX_AGE:
                self._drop()
            self._rewrite()
        else:
            with contextlib.suppress(OSError), self._path.open("ab") as file:
                file.write(frames.pack(msgspec.msgpack.encode(new)))

    def oldest(self, most: int) -> list[bytes]:
        """Return the bodies of at most `most` of them."""
        return [kept.body for kept, _ in zip(self._kept, range(most), strict=False)]

    def forget(self, count: int) -> None:
        """Forget the `count` oldest."""
        for _ in range(min(count, len(self._kept))):
            self._drop()
        if not self._kept:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _add(self, kept: Kept) -> None:
        self._kept.append(kept)
        self._size += len(kept.body)

    def _drop(self) -> None:
        self._size -= len(self._kept.popleft().body)

    def _drop_until(self, size: int) -> None:
        while len(self._kept) > 1 and self._size > size:
            self._drop()

    def _rewrite(self) -> None:
        packed = b"".join(frames.pack(msgspec.msgpack.encode(kept)) for kept in self._kept)
        with contextlib.suppress(OSError):
            disk.replace(self._path, packed)
