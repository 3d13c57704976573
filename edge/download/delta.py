"""A release made from the files that are here already and the few that are not.

The signed checksums document names every file of a release by hash, size and mode. What comes out is checked by that
document exactly as an unpacked bundle is, so it does not matter where a file came from. On any doubt, the whole
bundle is fetched instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.config import Paths
from edge.download.fetch import Fetcher, Held, file_sha256
from edge.errors import Stop
from edge.storage import disk
from edge.updating import stage
from topics import bundle
from topics.bundle import Checksums, FileEntry
from topics.documents import Release
from topics.errors import DecodeError

ASKING: Final = 4096
"""Bytes that asking for one file costs beside its content: headers both ways and, over TLS, a handshake."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Files to fetch (one per hash), and the bytes that this moves."""

    fetched: list[FileEntry]
    moves: int


def plan(wanted: Checksums, here: Iterable[str], release: Release, *, received: int = 0) -> Plan | None:
    """Return what to fetch, or None when the whole bundle is the better way. Pure. Rules:

    1. A file whose hash is in `here` is not fetched, whatever its path; of several with one hash, one is.
    2. Fetching a file moves its size (it travels unpacked) and `ASKING` bytes.
    3. The bundle moves its signed size less the `received` bytes of it that are here; the cheaper way is taken, the
       bundle when both cost the same.
    4. Files of more than the bundle may unpack to are refused: the signed size bounds the disk used either way.
    """
    if sum(entry.size for entry in wanted.files) > bundle.unpacked_limit(release.bundle.size):
        return None
    known = set(here)
    missing = {entry.sha256: entry for entry in wanted.files if entry.sha256 not in known}
    moves = sum(entry.size + ASKING for entry in missing.values())
    return Plan(list(missing.values()), moves) if moves < release.bundle.size - received else None


def make(
    paths: Paths, release: Release, fetcher: Fetcher, held: Iterable[str], values: Mapping[str, str]
) -> bool:
    """Stage `release` from the files of the releases `held` and fetched ones; False when that is no way.

    Raises `Stop` for a full disk, and for env templates that cannot be filled.
    """
    left = release.bundle.size - fetcher.received(release, paths.downloads)
    # Of itself too: a release that stands here but is not as signed lacks a file or two.
    held = list(held)
    sources = [folder for folder in map(paths.release, [*held, release.id]) if folder.is_dir()]
    # The document itself moves a hundred bytes a file: for a bundle of few kilobytes that is not worth asking.
    if not sources or left <= 4 * ASKING:
        return False
    try:
        document = fetcher.checksums(release, left, _document(paths, held))
        wanted = bundle.parse_checksums(document)
        here = _search(sources, wanted)
        chosen = plan(wanted, here, release, received=release.bundle.size - left)
        if chosen is None:
            return False
        for entry in chosen.fetched:
            here[entry.sha256] = fetcher.blob(release, entry.sha256, entry.size, paths.downloads)
    except Stop as stop:
        if stop.full:
            raise
        return False
    except (DecodeError, OSError):
        return False
    return stage.assemble(paths, release, [(entry, here[entry.sha256]) for entry in wanted.files], values)


def put_back(
    paths: Paths, release: Release, entry: FileEntry, fetcher: Fetcher, held: Iterable[str] = ()
) -> None:
    """Put a file of `release` back as it was signed, taken from another release in `held` or fetched.

    The file is replaced in one step, what stood in its place (a link, a folder) removed. Raises `Stop` when nobody has
    the file, and `OSError`.
    """
    path = paths.release(release.id) / bundle.path(entry.path)
    document = Checksums([entry])
    source = _search([paths.release(each) for each in held], document).get(entry.sha256)
    beside = paths.downloads / f"{entry.sha256}.file"
    try:
        disk.remove(beside)
        if source is None or not stage.copy(source, beside, entry):
            disk.remove(beside)
            source = fetcher.blob(release, entry.sha256, entry.size, paths.downloads)
            if not stage.copy(source, beside, entry):
                raise Stop(f"{entry.path} changed while it was put back")
        disk.fsync(beside)
        _clear(path, paths.release(release.id))
        beside.replace(path)
        disk.fsync_dir(path.parent)
    finally:
        disk.remove(beside)
        disk.remove(paths.downloads / f"{entry.sha256}.blob")


def _clear(path: Path, top: Path) -> None:
    """Make way for a file: what is no folder above it goes, and a folder in its place."""
    for parent in reversed(path.relative_to(top).parents[:-1]):
        place = top / parent
        if place.is_symlink() or not place.is_dir():
            disk.remove(place)
            place.mkdir(mode=0o755)
    if path.is_dir() and not path.is_symlink():
        disk.remove(path)


def _document(paths: Paths, held: list[str]) -> Held | None:
    """Return the checksums of the first release in `held`, if they are here."""
    try:
        return Held(held[0], bundle.parse_checksums(paths.checksums(held[0]).read_bytes()))
    except (IndexError, DecodeError, OSError):
        return None


def _search(folders: list[Path], wanted: Checksums) -> dict[str, Path]:
    """Return a file for each wanted hash that stands in `folders` as it should: same path first, then same size."""
    places = {(entry.path, entry.size): entry.sha256 for entry in wanted.files}
    sizes = {entry.size for entry in wanted.files}
    hashes = {entry.sha256 for entry in wanted.files}
    found: dict[str, Path] = {}
    others = []
    for folder in folders:
        for path in _files(folder):
            size = path.stat().st_size
            guess = places.get((path.relative_to(folder).as_posix(), size))
            if guess is not None and guess not in found and file_sha256(path) == guess:
                found[guess] = path
            elif size in sizes:
                others.append(path)
    for path in others:
        if hashes <= found.keys():
            break
        digest = file_sha256(path)
        if digest in hashes:
            found.setdefault(digest, path)
    return found


def _files(folder: Path) -> Iterable[Path]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path
