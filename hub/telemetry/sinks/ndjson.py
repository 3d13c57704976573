"""Append-only files of lines: `2026-11-25T04-0001.ndjson`, by the hour (UTC) and by size.

Rules:

1. A file is begun with the first line of an hour, at a size, and at each start; an older one is never written again.
2. A file is on disk (fsync) before the next one begins, and when the hub stops.
3. All files together stay below a cap; the oldest go first.
4. The last of the disk belongs to the database: below a reserve of free space lines are dropped and counted.
5. A line that could not be written whole is cut off again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

from hub.telemetry.sinks.queue import Queue
from hub.telemetry.sinks.render import Rendered
from hub.telemetry.sinks.sink import DroppedError, Sink
from hub.times import rfc3339

CAP: Final = 1024 * 1024 * 1024
FILE_BYTES: Final = 64 * 1024 * 1024
RESERVE: Final = 256 * 1024 * 1024
HOUR_MS: Final = 3_600_000
_NAME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d)-(\d{4,})\.ndjson\Z")


def free_bytes(folder: Path) -> int:
    """Return how many bytes an ordinary user may still write below `folder`. Raises `OSError`."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


class Ndjson(Sink):
    """Files below `folder`, `cap` bytes in all, each of about `file_bytes`. `now` gives ms."""

    NAME = "ndjson"
    REASONS: ClassVar[tuple[str, ...]] = (*Sink.REASONS, "disk")

    def __init__(
        self,
        folder: Path,
        *,
        now: Callable[[], int],
        cap: int = CAP,
        file_bytes: int = FILE_BYTES,
        reserve: int = RESERVE,
        free: Callable[[Path], int] = free_bytes,
        queue: Queue | None = None,
    ) -> None:
        super().__init__(queue)
        self._folder = folder
        self._now = now
        self._cap = cap
        self._file_bytes = file_bytes
        self._reserve = reserve
        self._free = free
        self._file: int | None = None
        self._hour = ""
        self._size = 0

    def write(self, lines: list[Rendered]) -> None:
        """Append `lines`; see `Sink.write`."""
        data = b"".join([line.text + b"\n" for line in lines])
        try:
            self._roll(len(data))
            self._append(data)
        except OSError as error:
            raise DroppedError(
                "disk", f"Lines cannot be written below {self._folder}: {error.strerror or error}."
            ) from None

    def idle(self) -> None:
        """Finish a file whose hour is over."""
        if self._file is not None and self._hour != self._present_hour():
            self.close()

    def close(self) -> None:
        """Bring the open file to the disk and close it. Raises `OSError`."""
        file, self._file = self._file, None
        if file is not None:
            try:
                os.fsync(file)
            finally:
                os.close(file)

    def _present_hour(self) -> str:
        return str(rfc3339(self._now()))[:13]

    def _roll(self, coming: int) -> None:
        hour = self._present_hour()
        over = self._hour != hour or (self._size and self._size + coming > self._file_bytes)
        if self._file is not None and over:
            self.close()
        if self._file is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._free(self._folder) - coming < self._reserve:
            raise OSError(f"less than {self._reserve // 2**20} MiB of the disk are free")
        if self._file is None:
            self._begin(hour, coming)

    def _begin(self, hour: str, coming: int) -> None:
        files = sorted((found[1], int(found[2]), path) for path in self._folder.iterdir()
                       if (found := _NAME.match(path.name)))  # fmt: skip
        total = sum(path.stat().st_size for _, _, path in files)
        part = max((number for name, number, _ in files if name == hour), default=0) + 1
        for _, _, path in files:
            if total + max(coming, self._file_bytes) <= self._cap:
                break
            total -= path.stat().st_size
            path.unlink()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.open(self._folder / f"{hour}-{part:04}.ndjson", flags, 0o600)
        self._hour, self._size = hour, 0

    def _append(self, data: bytes) -> None:
        assert self._file is not None  # noqa: S101  (`_roll` opened it)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)
