"""Durable reports, kept on disk until the hub's receipt.

The file is a row of frames: length, CRC-32, MessagePack. A frame that is not whole ends the file (power
failed while it was written, so it was never sent). Because damage further up could also have eaten reports
that were sent, numbering goes on under a new spool id after any such cut: a number is never used twice.

Results stay until their receipt. What a later report says better goes when there is no room, and what is too old to
help anybody goes at a connection (`edge.storage.worth`). Either leaves a gap in the numbers, which the hub passes.

Each report comes from a source (a series of serials); the spool takes each serial once, so the step from a
state file's outbox into the spool can be repeated after a crash. One process writes it.

A disk that refuses a write leaves nothing half done: whatever stands in the file by then, the next write begins by
putting a whole new file in its place.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

import msgspec

from edge.storage import disk, frames, worth

MAX_BYTES: Final = 8 * 1024 * 1024
"""Of bodies: some 20,000 results. A device cut off for years stops adding here, since no result is thrown away: what
`append` refuses stays in its source's outbox, and no update begins any more once that is full too."""
SLACK: Final = 256 * 1024
"""Bytes of receipted reports that the file may carry along until it is written anew."""


class Entry(msgspec.Struct, frozen=True, tag="report"):
    """One report: number `n` within `spool`, and the body that is sent."""

    spool: str
    n: int
    source: str
    serial: int
    channel: str
    body: bytes


class Mark(msgspec.Struct, frozen=True, tag="mark"):
    """What must be known when no entry says so: the next number, and the last serial of each source."""

    spool: str
    n: int
    serials: dict[str, int]


class Cut(msgspec.Struct, frozen=True, tag="cut"):
    """Reports of `spool` up to and with `n` are receipted."""

    spool: str
    n: int


def held(entries: list[Entry]) -> int:
    """Return the bytes of reports that count against `MAX_BYTES`."""
    return sum(len(entry.body) for entry in entries)


class Spool:
    """The spool file. Raises `OSError` when the disk refuses."""

    def __init__(self, path: Path, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._path = path
        self._entropy = entropy
        self._entries: list[Entry] = []
        self._serials: dict[str, int] = {}
        self._id = ""
        self._next = 1
        self._file: IO[bytes] | None = None
        if self._read() and self._id:
            self._file = path.open("ab")
        else:
            self._id, self._next = entropy(8).hex(), 1
            self._rewrite()

    @staticmethod
    def peek(path: Path) -> list[Entry]:
        """Return the reports in a file without touching it; another process may be writing it."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return []
        entries: list[Entry] = []
        for record in _frames(data):
            match record:
                case Entry():
                    entries.append(record)
                case Cut(spool, n):
                    entries = [entry for entry in entries if entry.spool != spool or entry.n > n]
        return entries

    @property
    def reports(self) -> list[Entry]:
        """What the hub has not receipted, oldest first."""
        return list(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def has(self, source: str, serial: int) -> bool:
        """Whether the report `serial` of `source` was taken, receipted or not."""
        return serial <= self._serials.get(source, 0)

    def append(self, source: str, serial: int, channel: str, encode: Callable[[str, int], bytes]) -> bool:
        """Take a report once; `encode` gives its body for (spool, n). False when the spool has no room.

        On disk when this returns. A serial that was taken before is left alone.
        """
        if self.has(source, serial):
            return True
        entry = Entry(self._id, self._next, source, serial, channel, encode(self._id, self._next))
        if held(self._entries) + len(entry.body) > MAX_BYTES:
            return False
        self._write(entry)
        self._apply(entry)
        return True

    def thin(self) -> int:
        """Forget what later reports say better; return how many that were."""
        return self._drop(worth.superseded(self._entries))

    def forget_old(self, now: int) -> None:
        """Forget what is outdated at `now` (s, of a clock that may be believed)."""
        self._drop(worth.outdated(self._entries, now))

    def receipt(self, spool: str, n: int) -> int:
        """Forget reports of `spool` up to and with `n`; return how many that were."""
        cut = Cut(spool, n)
        before = len(self._entries)
        self._apply(cut)
        gone = before - len(self._entries)
        if gone and (not self._entries or self._path.stat().st_size > 2 * held(self._entries) + SLACK):
            self._rewrite()
        elif gone:
            self._write(cut)
        return gone

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _drop(self, places: set[int]) -> int:
        if places:
            self._entries = [entry for place, entry in enumerate(self._entries) if place not in places]
            self._rewrite()
        return len(places)

    def _read(self) -> bool:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return True
        for record in _frames(data):
            if record is None:
                return False
            self._apply(record)
        return bool(data)

    def _apply(self, record: Entry | Mark | Cut) -> None:
        match record:
            case Entry():
                self._entries.append(record)
                self._serials[record.source] = max(record.serial, self._serials.get(record.source, 0))
                self._id, self._next = record.spool, record.n + 1
            case Mark():
                self._id, self._next = record.spool, record.n
                self._serials.update(record.serials)
            case Cut():
                self._entries = [
                    entry for entry in self._entries if entry.spool != record.spool or entry.n > record.n
                ]

    def _write(self, record: Entry | Cut) -> None:
        file = self._file or self._rewrite()
        start = file.tell()
        try:
            file.write(_frame(record))
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            self._file = None
            with contextlib.suppress(OSError):
                file.close()  # tries again to write what it holds
            with contextlib.suppress(OSError):
                os.truncate(self._path, start)  # room for what is more urgent
            raise

    def _rewrite(self) -> IO[bytes]:
        # Not open in between: a file that was replaced takes writes, and nobody ever reads them.
        self.close()
        # Only sources that can still repeat a serial matter: the newest few.
        serials = dict(list(self._serials.items())[-16:])
        kept: list[Entry | Mark] = [*self._entries, Mark(self._id, self._next, serials)]
        disk.replace(self._path, b"".join(_frame(record) for record in kept))
        self._file = self._path.open("ab")
        return self._file


def _frame(record: Entry | Mark | Cut) -> bytes:
    return frames.pack(msgspec.msgpack.encode(record))


def _frames(data: bytes) -> Iterator[Entry | Mark | Cut | None]:
    """Yield the records in `data`; a None last when something follows that is not a whole record."""
    for body in frames.unpack(data):
        if body is None:
            yield None
            return
        try:
            yield msgspec.msgpack.decode(body, type=Entry | Mark | Cut)
        except msgspec.MsgspecError:
            yield None
            return
