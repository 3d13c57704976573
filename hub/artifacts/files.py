"""Bundles and their single files on disk, by the hash of their content: written beside, forced to disk, then named.

FOLDER/ab/abcd…         a bundle by its SHA-256
FOLDER/blobs/ab/abcd…   one file of a bundle, the same for all bundles that hold it
FOLDER/packed/          see `hub.artifacts.packing`
FOLDER/incoming/        uploads under way; emptied at the start, since no upload outlives the hub
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from hub.artifacts.packing import PackedFiles
from hub.errors import Invalid, NotFound, RequestError, TooLarge


class Damaged(RequestError):  # noqa: N818  (named by outcome)
    """What is stored is not what was signed."""

    status, title = 503, "Service unavailable"


class Blobs:
    """Content-addressed files below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, tuple[int, int, int]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the file with that hash is, or would be."""
        return self._folder / sha256[:2] / sha256

    def whole(self, sha256: str, size: int | None = None) -> Path:
        """Return the file with that hash, once its bytes have been seen to have it; raises `Damaged` or `NotFound`.

        A file is hashed at its first use and again when its time or size changed: a disk that loses a bit would
        otherwise make every device download it, refuse it, and count as failed.
        """
        path = self.path(sha256)
        try:
            status = path.stat()
        except FileNotFoundError:
            raise NotFound(
                f"The file {sha256} is missing; publish the release again.", rule="artifact_missing"
            ) from None
        mark = (status.st_ino, status.st_mtime_ns, status.st_size)
        if self._seen.get(sha256) != mark:
            if status.st_size != (status.st_size if size is None else size) or _sha256(path) != sha256:
                raise Damaged(
                    f"The stored file {sha256} is damaged; publish the release again.",
                    rule="artifact_damaged",
                )
            self._seen[sha256] = mark
        return path

    def keep(self, incoming: Path, sha256: str) -> None:
        """Give a verified file its name for good."""
        target = self.path(sha256)
        target.parent.mkdir(exist_ok=True)
        incoming.replace(target)
        for folder in (target.parent, self._folder):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def remove(self, sha256: str) -> int:
        """Remove the file with that hash, if it is there; return its size in bytes, 0 for none."""
        path = self.path(sha256)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        self._seen.pop(sha256, None)
        return size


class Unpacked:
    """Files of a bundle under verification, written one after another and named by their hashes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._next = folder / "next"
        folder.mkdir()
        self._file = self._next.open("wb")

    def write(self, chunk: bytes) -> None:
        """Add to the file that is being written."""
        self._file.write(chunk)

    def end(self, sha256: str) -> None:
        """End the file, which has that hash, and begin the next."""
        self._file.close()
        self._next.replace(self._folder / sha256)
        self._file = self._next.open("wb")

    def move_into(self, blobs: Blobs) -> None:
        """Give every file its place; only for a bundle that passed every check."""
        for path in self._folder.iterdir():
            if path != self._next:
                target = blobs.path(path.name)
                target.parent.mkdir(exist_ok=True)
                # No fsync for each of thousands: a blob is hashed before its first use, and a device that gets none
                # takes the bundle.
                path.replace(target)

    def remove(self) -> None:
        """Remove what is left."""
        self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class BundleFiles(Blobs):
    """Bundles below one folder, their single files in `blobs`, packed documents, and uploads on their way."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.blobs = Blobs(folder / "blobs")
        self.packed = PackedFiles(folder / "packed")
        self._incoming = folder / "incoming"
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir(parents=True, exist_ok=True)

    def unpack(self, name: str) -> Unpacked:
        """Return a place for the files of the upload `name`."""
        return Unpacked(self._incoming / f"{name}.files")

    async def receive(self, chunks: AsyncIterator[bytes], *, name: str, size: int, sha256: str) -> Path:
        """Write `chunks` to a file of its own and return it, not yet under its hash.

        Raises `TooLarge` at the first byte over `size` and `Invalid` when length or hash differ; then, as when the
        sender goes away, no file stays.
        """
        too_large = f"The bundle is larger than the {size} bytes that were signed."
        incoming, received, digest = await self.receive_any(
            chunks, name=name, limit=size, too_large=too_large
        )
        if received != size or digest != sha256:
            incoming.unlink(missing_ok=True)
            raise Invalid(
                f"The bundle is not the one that was signed: {received} bytes with SHA-256 {digest}, "
                f"signed are {size} with {sha256}.",
                rule="sha256",
            )
        return incoming

    async def receive_any(
        self, chunks: AsyncIterator[bytes], *, name: str, limit: int, too_large: str
    ) -> tuple[Path, int, str]:
        """Write at most `limit` bytes to a file of its own; return it, its size and its SHA-256.

        Raises `TooLarge` with that sentence; then, as when the sender goes away, no file stays.
        """
        incoming = self._incoming / name
        digest, received = hashlib.sha256(), 0
        try:
            # Writes go to the page cache and take microseconds; the one fsync is what may take long.
            with incoming.open("wb") as file:
                async for chunk in chunks:
                    received += len(chunk)
                    if received > limit:
                        raise TooLarge(too_large, rule="size")
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            incoming.unlink(missing_ok=True)
            raise
        return incoming, received, digest.hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1024 * 1024):
            digest.update(chunk)
    return digest.hexdigest()
