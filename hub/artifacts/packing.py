"""Small documents packed by gzip, each once: on disk, under the hash of what they were made from.

FOLDER/<sha256>.gz              a checksums document
FOLDER/<sha256>.<sha256>.gz     what differs from the second one to the first
"""

from __future__ import annotations

import gzip
import hashlib
import secrets
from collections.abc import Callable, Collection
from pathlib import Path

_HASH = hashlib.sha256().digest_size


def pack(data: bytes) -> bytes:
    """Return `data` as a gzip file without name and time."""
    return gzip.compress(data, mtime=0)


class PackedFiles:
    """Packed documents below one folder. All of it can be made again, so nothing is forced to disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Return the document `name` packed; `make` gives it unpacked, where it is not here whole."""
        path = self._folder / f"{name}.gz"
        try:
            found = path.read_bytes()
        except FileNotFoundError:
            found = b""
        digest, packed = found[:_HASH], found[_HASH:]
        if len(digest) == _HASH and hashlib.sha256(packed).digest() == digest:
            return packed
        packed = pack(make())
        beside = path.with_suffix(f".{secrets.token_hex(4)}")
        try:
            beside.write_bytes(hashlib.sha256(packed).digest() + packed)
            beside.replace(path)
        except OSError:  # a disk that takes nothing more keeps no device from its answer
            beside.unlink(missing_ok=True)
        return packed

    def keep(self, documents: Collection[str]) -> None:
        """Remove what was made from a document that is not among these hashes."""
        for path in self._folder.iterdir():
            if not set(path.name.split(".")[:-1]) <= set(documents):
                path.unlink(missing_ok=True)
