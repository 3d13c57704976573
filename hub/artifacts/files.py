"""Bundles on disk, by the hash of their content: written beside, forced to disk, then named."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from hub.errors import Invalid, NotFound, RequestError, TooLarge


class Damaged(RequestError):  # noqa: N818  (named by outcome)
    """What is stored is not what was signed."""

    status, title = 503, "Service unavailable"


class BundleFiles:
    """Content-addressed files below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, tuple[int, int, int]] = {}
        (folder / "incoming").mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the file with that hash is, or would be."""
        return self._folder / sha256[:2] / sha256

    def whole(self, sha256: str, size: int) -> Path:
        """Return the file with that hash, once its bytes have been seen to have it; raises `Damaged` or `NotFound`.

        A file is hashed at its first use and again when its time or size changed: a disk that loses a bit would
        otherwise make every device download it, refuse it, and count as failed.
        """
        path = self.path(sha256)
        try:
            status = path.stat()
        except FileNotFoundError:
            raise NotFound(
                f"The bundle {sha256} is missing; publish the release again.", rule="artifact_missing"
            ) from None
        mark = (status.st_ino, status.st_mtime_ns, status.st_size)
        if self._seen.get(sha256) != mark:
            if status.st_size != size or _sha256(path) != sha256:
                raise Damaged(
                    f"The stored bundle {sha256} is damaged; publish the release again.",
                    rule="artifact_damaged",
                )
            self._seen[sha256] = mark
        return path

    async def receive(self, chunks: AsyncIterator[bytes], *, name: str, size: int, sha256: str) -> Path:
        """Write `chunks` to a file of its own and return it, not yet under its hash.

        Raises `TooLarge` at the first byte over `size` and `Invalid` when length or hash differ; then, as when the
        sender goes away, no file stays.
        """
        incoming = self._folder / "incoming" / name
        digest, received = hashlib.sha256(), 0
        try:
            # Writes go to the page cache and take microseconds; the one fsync is what may take long.
            with incoming.open("wb") as file:
                async for chunk in chunks:
                    received += len(chunk)
                    if received > size:
                        raise TooLarge(
                            f"The bundle is larger than the {size} bytes that were signed.", rule="size"
                        )
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            if received != size or digest.hexdigest() != sha256:
                raise Invalid(
                    f"The bundle is not the one that was signed: {received} bytes with SHA-256 {digest.hexdigest()}, "
                    f"signed are {size} with {sha256}.",
                    rule="sha256",
                )
        except BaseException:
            incoming.unlink(missing_ok=True)
            raise
        return incoming

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


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1024 * 1024):
            digest.update(chunk)
    return digest.hexdigest()
