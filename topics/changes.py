"""What differs between the checksums of two releases, so that a device which has one learns the other in few bytes.

A hash of every file costs some forty bytes each however it is packed; most of them a device knows already. What comes
out is believed only by the signed hash of the document it must become.

    >>> from topics.bundle import Checksums, FileEntry
    >>> a, b, c = (FileEntry(f"files/{n}", n * 64, 1, 0o644) for n in "abc")
    >>> old, new = Checksums([a, b]), Checksums([b, c])
    >>> apply(old, difference(old, new)) == bundle.checksums_bytes([b, c])
    True
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from topics import bundle, codec
from topics.bundle import CHECKSUMS_LIMIT, MAX_FILES, Checksums, FileEntry
from topics.fields import Text


class Changes(msgspec.Struct, frozen=True):
    """Files that are new or not as they were, and paths that are gone."""

    files: Annotated[list[FileEntry], Meta(max_length=MAX_FILES)]
    removed: Annotated[list[Text], Meta(max_length=MAX_FILES)]
    format: Literal[1] = 1


def difference(old: Checksums, new: Checksums) -> bytes:
    """Return the canonical document (JSON) that leads from `old` to `new`."""
    before, after = set(old.files), {entry.path for entry in new.files}
    files = [entry for entry in new.files if entry not in before]
    removed = sorted(entry.path for entry in old.files if entry.path not in after)
    return codec.encode(Changes(files, removed), codec.JSON)


def apply(old: Checksums, data: bytes) -> bytes:
    """Return the canonical checksums that the changes `data` make of `old`; raises `DecodeError`.

    Whether it is the signed one is for the caller to see.
    """
    changes = codec.decode(data, Changes, limit=CHECKSUMS_LIMIT, content_type=codec.JSON)
    entries = {entry.path: entry for entry in old.files}
    for path in changes.removed:
        entries.pop(path, None)
    entries |= {entry.path: entry for entry in changes.files}
    return bundle.checksums_bytes(list(entries.values()))
