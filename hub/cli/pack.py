"""Writing a bundle so that the same files give the same bytes: sorted, no times, no owners, two modes."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from hub.cli.compress import Gzip
from hub.cli.members import Member
from topics import bundle
from topics.bundle import FileEntry


class Source(Protocol):
    """Something to read a member's bytes from."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, fewer only at the end."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Hashes and size (bytes) of a written bundle, and its files."""

    sha256: str
    size: int
    tar_sha256: str
    compose_sha256: str
    files: list[FileEntry]


def write(
    target: BinaryIO,
    members: Iterable[Member],
    open_member: Callable[[Member], AbstractContextManager[Source]],
) -> Packed:
    """Write `members`, in the order given, to `target` as tar.gz and return what was written."""
    outer = _Hashing(target)
    files: list[FileEntry] = []
    with contextlib.closing(Gzip(outer.write)) as compressed:
        inner = _Hashing(compressed)
        with tarfile.open(fileobj=inner, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
            for member in members:
                with open_member(member) as source:
                    content = _Counting(source)
                    archive.addfile(_header(member), content)
                digest = content.hash.hexdigest()
                files.append(FileEntry(member.path, digest, member.entry.size, member.mode))
    compose = next((file.sha256 for file in files if file.path == bundle.COMPOSE), None)
    return Packed(
        outer.hash.hexdigest(),
        outer.size,
        inner.hash.hexdigest(),
        compose or hashlib.sha256().hexdigest(),
        files,
    )


def _header(member: Member) -> tarfile.TarInfo:
    header = tarfile.TarInfo(member.path)
    header.size, header.mode = member.entry.size, member.mode
    header.mtime = header.uid = header.gid = 0
    header.uname = header.gname = ""
    return header


class _Hashing:
    """A writable that hashes and counts what passes through."""

    def __init__(self, target: object) -> None:
        self._write: Callable[[bytes], object] = target.write  # type: ignore[attr-defined]
        self.hash, self.size = hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.size += len(data)
        self._write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back here."""


class _Counting:
    """A readable that hashes what is read."""

    def __init__(self, source: Source) -> None:
        self._source, self.hash = source, hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self.hash.update(data)
        return data
