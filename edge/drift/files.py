"""Drift: what stands in a release's folder against what was signed, file by file, and putting it back.

The signed checksums document says what belongs there. Pure comparison first, then reading and repairing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from edge.config import Paths
from edge.download import delta
from edge.download.fetch import Fetcher, file_sha256
from edge.download.turns import BRIEF
from edge.errors import Stop
from edge.storage import disk
from edge.updating import stage
from topics import bundle
from topics.bundle import FileEntry
from topics.documents import Release
from topics.errors import DecodeError
from topics.messages import DriftItem

MAX_ITEMS: Final = 256
"""Differences that one report names; the rest are counted."""
UNREADABLE: Final = "unreadable"


@dataclass(frozen=True, slots=True)
class Found:
    """Something that is not a folder. `sha256` is "" for what is not a regular file, and `UNREADABLE` for one that the
    disk does not give; `mode` is 12 bits."""

    path: str
    kind: Literal["file", "link", "other"]
    sha256: str
    mode: int
    owner: int


def compare(expected: Iterable[FileEntry], found: Iterable[Found], owner: int) -> list[DriftItem]:
    """Return every difference, by path. Pure. Rules:

    1. A file that was signed and is not there: `missing`, also when a folder has its name.
    2. Other content, a link or a device in its place: `hash`, and no more of that file: it is replaced as a whole.
    3. Else another mode (any of the 12 bits): `mode`; another owner than `owner`: `owner`.
    4. What was not signed: `extra`. Folders say nothing: files make them.
    """
    here = {each.path: each for each in found}
    items = []
    for entry in expected:
        each = here.pop(entry.path, None)
        if each is None:
            items.append(DriftItem(path=entry.path, what="missing", expected=entry.sha256))
        elif each.kind != "file" or each.sha256 != entry.sha256:
            got = each.sha256 if each.kind == "file" else each.kind
            items.append(DriftItem(path=entry.path, what="hash", expected=entry.sha256, found=got))
        else:
            if each.mode != entry.mode:
                items.append(_differs(entry.path, "mode", f"{entry.mode:o}", f"{each.mode:o}"))
            if each.owner != owner:
                items.append(_differs(entry.path, "owner", str(owner), str(each.owner)))
    items += [DriftItem(path=path, what="extra", found=each.kind) for path, each in here.items()]
    return sorted(items, key=lambda item: (item.path, item.what))


def check(paths: Paths, release: Release) -> list[DriftItem]:
    """Return how the release's folder differs from what was signed; reads every byte. Raises `OSError`."""
    found = list(scan(paths.release(release.id)))
    entries = _entries(paths, release)
    if entries is None:
        return [DriftItem(path=_document(release), what="hash", expected=release.checksums)]
    return compare(entries, found, paths.root.stat().st_uid)


def repair(
    paths: Paths, release: Release, items: Iterable[DriftItem], fetcher: Fetcher, held: Iterable[str]
) -> tuple[bool, str]:
    """Put right what `items` name, files from the releases `held` here or fetched.

    A file that cannot be had by itself comes out of the release's whole bundle, which is fetched then. Return whether
    any content was put back, and why something was not ("" when everything was). Raises `OSError`.
    """
    if _entries(paths, release) is None:
        try:
            disk.replace(paths.checksums(release.id), _document_again(paths, release, fetcher))
        except Stop as stop:
            return False, stop.reason
        items = check(paths, release)
    entries = {entry.path: entry for entry in _entries(paths, release) or ()}
    content, wanting = False, []
    paths.release(release.id).mkdir(mode=0o755, exist_ok=True)
    # What does not belong goes first: it may be in a folder that has a file's name.
    for item in sorted(items, key=lambda item: item.what != "extra"):
        path = paths.release(release.id) / item.path
        try:
            match item.what:
                # A name that was shortened for the report could be another file's.
                case "extra" if item.path not in entries:
                    disk.remove(path)
                    disk.fsync_dir(path.parent)
                case "mode":
                    path.chmod(entries[item.path].mode)
                    disk.fsync(path)
                case "hash" | "missing" | "owner":
                    delta.put_back(paths, release, entries[item.path], fetcher, held)
                    content = content or item.what != "owner"
                case _:
                    pass  # the hook's own view is no file
        except Stop:
            wanting.append(item)
    if not wanting:
        return content, ""
    item = wanting[0]
    try:
        with _unpacked(paths, release, fetcher) as (spare, _):
            for item in wanting:
                delta.put_back(paths, release, entries[item.path], fetcher, [spare])
                content = content or item.what != "owner"
    except Stop as stop:
        return content, f"{item.path}: {stop.reason}"
    return content, ""


def _document_again(paths: Paths, release: Release, fetcher: Fetcher) -> bytes:
    """Return the document that says what belongs there: from a source, or made anew from the bundle. Raises `Stop`."""
    try:
        return fetcher.checksums(release, bundle.CHECKSUMS_LIMIT)
    except Stop:
        with _unpacked(paths, release, fetcher) as (_, files):
            document = bundle.checksums_bytes(files)
    if hashlib.sha256(document).hexdigest() != release.checksums:
        raise Stop("the files in the bundle are not the ones that were signed", check="checksums")
    return document


@contextlib.contextmanager
def _unpacked(paths: Paths, release: Release, fetcher: Fetcher) -> Iterator[tuple[str, list[FileEntry]]]:
    """Yield the name among the releases under which the whole bundle stands for now, and its files. Raises `Stop`."""
    spare = f".repair-{release.id}"
    try:
        archive = fetcher.fetch(release, paths.downloads, BRIEF)
        disk.remove(paths.release(spare))
        paths.release(spare).mkdir(mode=0o700)
        yield spare, stage.unpack(release, archive, paths.release(spare))
    finally:
        disk.remove(paths.release(spare))


def scan(folder: Path) -> Iterable[Found]:
    """Yield everything below `folder` but folders; links are not followed. Raises `OSError`."""
    for parent, folders, names in os.walk(folder, onerror=_unless_gone):
        for name in [*folders, *names]:
            path = Path(parent, name)
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                continue
            regular = stat.S_ISREG(status.st_mode)
            yield Found(
                # A name that is not text cannot have been signed; it is shown as well as it can be.
                os.fsencode(path.relative_to(folder)).decode(errors="replace")[:512],
                "file" if regular else "link" if stat.S_ISLNK(status.st_mode) else "other",
                _hash(path) if regular else "",
                stat.S_IMODE(status.st_mode),
                status.st_uid,
            )


def text(release: str, items: Iterable[DriftItem]) -> str:
    """Return the differences as lines for people."""
    lines = []
    for item in items:
        detail = (
            f": {item.found[:16]} instead of {item.expected[:16]}" if item.found and item.expected else ""
        )
        lines.append(f"{item.what:<8} {item.path}{detail}")
    ending = f"{len(lines)} {'difference' if len(lines) == 1 else 'differences'}" if lines else "as signed"
    return "\n".join([*lines, f"{release}: {ending}"])


def _differs(path: str, what: Literal["mode", "owner"], expected: str, found: str) -> DriftItem:
    return DriftItem(path=path, what=what, expected=expected, found=found)


def _entries(paths: Paths, release: Release) -> list[FileEntry] | None:
    """Return what was signed, or None when the document that says so is not here as signed."""
    try:
        data = paths.checksums(release.id).read_bytes()
        if hashlib.sha256(data).hexdigest() == release.checksums:
            return list(bundle.parse_checksums(data).files)
    except (OSError, DecodeError):
        pass
    return None


def _document(release: Release) -> str:
    return f"meta/{release.id}.checksums"


def _hash(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError:
        return UNREADABLE


def _unless_gone(error: OSError) -> None:
    # A release whose folder is gone lacks all of its files; a folder that cannot be read says nothing of them.
    if not isinstance(error, FileNotFoundError):
        raise error
