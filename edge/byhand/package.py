"""What a technician brings: an exported folder, or one file that holds one release.

The file is a plain tar of the same paths that the hub answers at and an export has, in this order: `trust/roots/1` and
on, `artifacts/ROLE/ID/release`, `artifacts/ROLE/ID/bundle`. Nothing in it is believed for being there: roots follow
each other by their signatures, the release by its keys, the bundle by its size and hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from edge.errors import Refused, Untrusted
from edge.storage import disk
from topics import names
from topics.archive import CHUNK, Reader
from topics.channels import RELEASE_LIMIT
from topics.documents import Release
from topics.errors import DecodeError, TopicError
from topics.trust import ROOT_LIMIT

MOST_ROOTS: Final = 4096
_RELEASE: Final = re.compile(r"artifacts/([^/]+)/([^/]+)/release\Z")
_WAY_OUT: Final = "make one with flaghoist release export-file RELEASE FILE"


class Package(Protocol):
    """One release with the roots that lead to it."""

    roots: list[bytes]
    envelope: bytes

    def bundle(self) -> Iterator[bytes]:
        """Yield the bundle's bytes; once. Raises `Refused` and `OSError`."""


@contextlib.contextmanager
def opened(path: Path, role: str, release_id: str | None) -> Iterator[Package]:
    """Open what stands at `path`; `release_id` chooses among a folder's releases of `role`.

    Raises `Refused` for what is neither kind, and `OSError`.
    """
    if path.is_dir():
        yield _Folder(path, role, release_id)
        return
    with path.open("rb") as file:
        try:
            yield _Single(Reader(file.read, max_bytes=path.stat().st_size), path)
        except DecodeError as error:
            raise Refused(f"{path} is not an exported release ({error.detail}); {_WAY_OUT}") from None


def copy_bundle(package: Package, release: Release, folder: Path) -> None:
    """Copy the bundle to where a download of it would stand in `folder`.

    Raises `Untrusted` when it is not the one that was signed, and `OSError`.
    """
    part = folder / f"{release.bundle.sha256}.part"
    disk.remove(part)
    digest, left = hashlib.sha256(), release.bundle.size
    try:
        with part.open("xb") as file:
            for piece in package.bundle():
                left -= len(piece)
                if left < 0:
                    break
                digest.update(piece)
                file.write(piece)
        if left or digest.hexdigest() != release.bundle.sha256:
            raise Untrusted(f"the bundle of {release.id} is not the one that was signed; {_WAY_OUT}")
        disk.fsync(part)
        part.replace(part.with_suffix(".bundle"))
        disk.fsync_dir(folder)
    finally:
        disk.remove(part)


class _Folder:
    def __init__(self, path: Path, role: str, release_id: str | None) -> None:
        try:
            wanted = names.release_id(release_id) if release_id else "*"
        except TopicError as error:
            raise Refused(str(error)) from None
        found = sorted(path.glob(f"artifacts/{role}/{wanted}/release"))
        if not found:
            what = f"release {release_id}" if release_id else "release"
            raise Refused(f"{path} holds no {what} of role {role}; {_WAY_OUT}")
        if len(found) > 1:
            several = ", ".join(each.parent.name for each in found)
            raise Refused(f"{path} holds several releases; choose one with --release: {several}")
        self.envelope = _read(found[0], RELEASE_LIMIT)
        self.roots = list(_numbered(path / "trust" / "roots"))
        self._bundle = found[0].with_name("bundle")

    def bundle(self) -> Iterator[bytes]:
        with self._bundle.open("rb") as file:
            yield from iter(partial(file.read, CHUNK), b"")


class _Single:
    """Read from the front, once: members come in the order in which they are needed."""

    def __init__(self, reader: Reader, path: Path) -> None:
        self._reader = reader
        self.roots: list[bytes] = []
        self.envelope = b""
        self._found = False
        for member in reader.members():
            if member.path.startswith("trust/roots/") and not member.is_folder:
                if len(self.roots) == MOST_ROOTS:
                    raise Refused(f"{path} holds more roots than any fleet has; {_WAY_OUT}")
                self.roots.append(_capped(_joined(reader.content(), ROOT_LIMIT), ROOT_LIMIT, member.path))
            elif _RELEASE.match(member.path):
                self.envelope = _capped(_joined(reader.content(), RELEASE_LIMIT), RELEASE_LIMIT, member.path)
            elif member.path.endswith("/bundle"):
                self._found = True
                break
        if not self.envelope or not self._found:
            raise Refused(f"{path} does not hold a release and then its bundle; {_WAY_OUT}")

    def bundle(self) -> Iterator[bytes]:
        yield from self._reader.content()


def _numbered(folder: Path) -> Iterable[bytes]:
    for version in range(1, MOST_ROOTS):
        path = folder / str(version)
        if not path.is_file():
            return
        yield _read(path, ROOT_LIMIT)


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return _capped(file.read(limit + 1), limit, path.name)


def _joined(pieces: Iterable[bytes], limit: int) -> bytes:
    data = b""
    for piece in pieces:
        data += piece
        if len(data) > limit:
            break
    return data


def _capped(data: bytes, limit: int, name: str) -> bytes:
    if len(data) > limit:
        raise Refused(f"{name} is larger than {limit} bytes, so it is none of ours; {_WAY_OUT}")
    return data
