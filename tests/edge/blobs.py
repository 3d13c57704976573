"""A release's files one by one, laid out beside its bundle as the hub and an exported folder have them."""

from __future__ import annotations

import gzip
import io
import tarfile

from tests.edge.world import Built, Source
from topics import bundle, changes
from topics.bundle import Checksums, FileEntry
from topics.trust import sha256


def contents(built: Built) -> list[tuple[FileEntry, bytes]]:
    """Return every file of a release's archive with its entry."""
    found = []
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(built.archive))) as tar:
        for info in tar:
            file = tar.extractfile(info)
            data = file.read() if file else b""
            found.append((FileEntry(info.name, sha256(data), len(data), info.mode), data))
    return found


def by_path(built: Built) -> dict[str, str]:
    """Return the hash of each file."""
    return {entry.path: entry.sha256 for entry, _ in contents(built)}


def layout(built: Built) -> dict[str, bytes]:
    """Return URL paths and bodies: the bundle, its checksums, and every file by its hash."""
    top = f"/artifacts/{built.release.role}/{built.id}"
    files = contents(built)
    checksums = bundle.checksums_bytes([entry for entry, _ in files])
    return {
        f"{top}/bundle": built.archive,
        f"{top}/checksums": checksums,
        f"{top}/checksums.gz": gzip.compress(checksums, mtime=0),
        **{f"{top}/blobs/{entry.sha256}": data for entry, data in files},
    }


def lead(old: Built, new: Built) -> dict[str, bytes]:
    """Return the URL path and body of what leads from the checksums of `old` to those of `new`."""
    before, after = (Checksums([entry for entry, _ in contents(one)]) for one in (old, new))
    path = f"/artifacts/{new.release.role}/{new.id}/changes/{old.id}.gz"
    return {path: gzip.compress(changes.difference(before, after), mtime=0)}


def offer(source: Source, built: Built) -> Built:
    """Let `source` have all of it."""
    source.add(built)
    source.files |= {
        path: data for path, data in layout(built).items() if not path.endswith("/bundle") and data
    }
    return built
