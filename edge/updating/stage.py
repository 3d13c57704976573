"""From a downloaded archive to a release folder whose every byte is the one that was signed.

The folder appears under its name only when it is complete, on disk, and checked: the archive's hash, the
tar's hash, the checksums document made anew from what was written, `compose.yaml` and `bundle.json`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from edge.config import Paths
from edge.download.fetch import file_sha256
from edge.errors import Stop
from edge.storage import disk, state
from edge.updating import templates
from topics import bundle
from topics.archive import CHUNK, Gunzip, Reader
from topics.bundle import BundleInfo, FileEntry
from topics.documents import Release
from topics.errors import DecodeError

RESERVE: Final = 16 * 1024 * 1024
"""Bytes of disk that staging leaves free, so that state and spool can still be written."""


def stage(paths: Paths, release: Release, archive: Path, values: Mapping[str, str]) -> BundleInfo:
    """Unpack `archive` as the folder of `release` and fill its env templates; return its `bundle.json`.

    Raises `Stop`: lasting when the content is at fault, else (a full disk) not. Nothing is left behind then.
    """
    return _staged(paths, release, values, lambda staging: unpack(release, archive, staging))


def assemble(
    paths: Paths, release: Release, files: list[tuple[FileEntry, Path]], values: Mapping[str, str]
) -> bool:
    """Make the folder of `release` from copies of `files`, checked as an unpacked bundle is.

    False when a file is not (any more) what it should be. Raises `Stop` for a full disk, and for env templates that
    cannot be filled. Nothing is left behind then.
    """
    try:
        _staged(paths, release, values, lambda staging: _copy_all(files, staging))
    except ChangedError:
        return False
    return True


class ChangedError(Exception):
    """A file that was to be copied is not what it should be."""


def _staged(
    paths: Paths, release: Release, values: Mapping[str, str], fill: Callable[[Path], list[FileEntry]]
) -> BundleInfo:
    """Let `fill` make the files in a folder of their own, check them, and give the folder its name."""
    staging = paths.releases / f".staging-{release.id}"
    try:
        disk.remove(staging)
        staging.mkdir(mode=0o755)
        files = fill(staging)
        info = _check(release, files, staging)
        templates.render(paths, release.id, staging, values)
        _sync(staging)
        state.remember_release(paths, release, bundle.checksums_bytes(files))
        # Only now: what stands there, not as it was signed, may have given most of the files.
        disk.remove(paths.release(release.id))
        staging.rename(paths.release(release.id))
        disk.fsync_dir(paths.releases)
    except OSError as error:
        raise Stop(_os_reason(error), full=disk.is_full(error)) from None
    else:
        return info
    finally:
        disk.remove(staging)


def reuse(paths: Paths, release: Release, values: Mapping[str, str]) -> bool:
    """Whether the release stands on this device already, every byte as signed, and is ready to activate.

    Raises `Stop` when its env templates cannot be filled.
    """
    folder = paths.release(release.id)
    if stands(paths, release) is None:
        return False
    try:
        templates.render(paths, release.id, folder, values)
        state.remember_release(paths, release, bundle.checksums_bytes(scan(folder)))
    except OSError as error:
        raise Stop(_os_reason(error), full=disk.is_full(error)) from None
    return True


def stands(paths: Paths, release: Release) -> BundleInfo | None:
    """Return `bundle.json` if the release's folder is on this device, every byte as signed; else None."""
    folder = paths.release(release.id)
    try:
        if not folder.is_dir():
            return None
        return _check(release, scan(folder), folder)
    except (Stop, OSError):
        return None


def scan(folder: Path) -> list[FileEntry]:
    """Return an entry for every file below `folder`; raises `Stop` for anything that is not a plain file."""
    files = []
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(parent, name)
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise Stop(f"{path} is neither a regular file nor a folder")
        for name in names:
            path = Path(parent, name)
            status = path.stat()
            files.append(
                FileEntry(
                    path.relative_to(folder).as_posix(),
                    file_sha256(path),
                    status.st_size,
                    status.st_mode & 0o777,
                )
            )
    return files


def unpack(release: Release, archive: Path, staging: Path) -> list[FileEntry]:
    """Unpack `archive` into the new folder `staging`; return what came out. Raises `Stop` for what was not signed."""
    files = []
    most = bundle.unpacked_limit(release.bundle.size)
    try:
        with archive.open("rb") as source:
            reader = Reader(Gunzip(source.read, max_bytes=most).read, max_bytes=most)
            for member in reader.members():
                path = staging / member.path
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                if member.is_folder:
                    path.mkdir(mode=0o755, exist_ok=True)
                    continue
                _need_room(staging, member.size)
                digest, _ = _write(path, member.mode, reader.content(), most=member.size)
                files.append(FileEntry(member.path, digest, member.size, member.mode))
    except DecodeError as error:
        raise Stop(f"the bundle is refused: {error.detail}", lasting=True, check="archive") from None
    if reader.sha256 != release.bundle.tar_sha256:
        raise Stop("the tar in the bundle is not the one that was signed", lasting=True, check="tar")
    return files


def _copy_all(files: list[tuple[FileEntry, Path]], staging: Path) -> list[FileEntry]:
    for entry, source in files:
        path = staging / bundle.path(entry.path)
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _need_room(staging, entry.size)
        if not copy(source, path, entry):
            raise ChangedError(entry.path)
    return [entry for entry, _ in files]


def copy(source: Path, path: Path, entry: FileEntry) -> bool:
    """Copy a file to the new `path` with the entry's mode; False when it is not what the entry says.

    The hash is that of the bytes that were written, so a file that changes meanwhile is noticed. Raises `OSError`.
    """
    with source.open("rb") as file:
        written = _write(path, entry.mode, iter(partial(file.read, CHUNK), b""), most=entry.size)
    return written == (entry.sha256, entry.size)


def _need_room(folder: Path, size: int) -> None:
    status = os.statvfs(folder)
    room = status.f_bavail * status.f_frsize - RESERVE
    if room < size:
        free = status.f_bavail * status.f_frsize
        raise Stop(
            f"the disk is full: {free} bytes are free, {size} are needed beside a reserve of {RESERVE}",
            full=True,
        )


def _write(path: Path, mode: int, pieces: Iterable[bytes], *, most: int) -> tuple[str, int]:
    """Write a new file, at most `most` bytes and a piece; return hash and size of what was written."""
    digest, size = hashlib.sha256(), 0
    # Exclusive: a file that is already there would mean that a name collided on this file system.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(handle, "wb") as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
            size += len(piece)
            if size > most:
                break
        os.fchmod(file.fileno(), mode)
    return digest.hexdigest(), size


def _check(release: Release, files: list[FileEntry], folder: Path) -> BundleInfo:
    if hashlib.sha256(bundle.checksums_bytes(files)).hexdigest() != release.checksums:
        raise Stop(
            "the files in the bundle are not the ones that were signed", lasting=True, check="checksums"
        )
    hashes = {entry.path: entry.sha256 for entry in files}
    if hashes.get(bundle.COMPOSE, hashlib.sha256(b"").hexdigest()) != release.compose_sha256:
        raise Stop("compose.yaml in the bundle is not the one that was signed", lasting=True, check="compose")
    if bundle.BUNDLE_JSON not in hashes:
        raise Stop("the bundle has no bundle.json", lasting=True, check="bundle_json")
    try:
        info = bundle.parse_info((folder / bundle.BUNDLE_JSON).read_bytes())
    except DecodeError as error:
        raise Stop(f"bundle.json: {error.detail}", lasting=True, check="bundle_json") from None
    if (info.role, info.hook) != (release.role, release.hook):
        raise Stop(
            "bundle.json names another role or hook than the signed release",
            lasting=True,
            check="bundle_json",
        )
    return info


def _sync(folder: Path) -> None:
    """Force every file to disk, then the names: all at the end, so that the file system does most of it at once."""
    walked = [(Path(parent), [Path(parent, name) for name in names]) for parent, _, names in os.walk(folder)]
    # What is on its way already is committed together by the first fsync; else each would be a commit of its own.
    for _, files in walked:
        for path in files:
            _begin_writing(path)
    for parent, files in walked:
        for path in files:
            disk.fsync(path)
        disk.fsync_dir(parent)


def _begin_writing(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        # The one call of the standard library that has Linux begin to write a file out (man 2 posix_fadvise).
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def _os_reason(error: OSError) -> str:
    if disk.is_full(error):
        return "the disk is full"
    return f"cannot unpack the bundle: {error.strerror or error}"
