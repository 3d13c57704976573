"""What is wrong with an uploaded archive that nobody has signed yet: every finding at once, for CI."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from hub.artifacts.lint import role as lint
from hub.artifacts.lint.findings import Finding, errors
from hub.artifacts.lint.source import TEXT_LIMIT, SourceFile
from topics import bundle
from topics.archive import Gunzip, Reader
from topics.errors import DecodeError

UPLOAD_LIMIT: Final = 256 * 1024 * 1024
"""Largest archive in bytes; what only has to be looked at needs no larger one."""
HELD_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of content that are held to be looked into, all files together."""


def validate(path: Path, size: int) -> dict[str, Any]:
    """Return `{"ok", "files", "findings"}` of the archive of `size` bytes at `path`."""
    files: list[SourceFile] = []
    contents: dict[str, bytes] = {}
    found: list[Finding] = []
    try:
        _read(path, size, files, contents)
    except DecodeError as error:
        found.append(
            Finding(
                file="bundle.tar.gz",
                rule="archive",
                detail=f"is no bundle ({error.detail})",
                remedy="pack it with `flaghoist release build`",
            )
        )
        # What came before the fault is judged; that files are missing is not known then.
        if not any(file.path == bundle.BUNDLE_JSON for file in files):
            return _answer(files, found)
    judged = lint.judge(
        [SourceFile(file.path, file.mode, file.size) for file in files], lambda file: contents[file.path]
    )
    return _answer(files, [*found, *judged.findings])


def _answer(files: list[SourceFile], found: list[Finding]) -> dict[str, Any]:
    return {"ok": not errors(found), "files": len(files), "findings": found}


def _read(path: Path, size: int, files: list[SourceFile], contents: dict[str, bytes]) -> None:
    limit, held = bundle.unpacked_limit(size), 0
    with path.open("rb") as packed:
        reader = Reader(Gunzip(packed.read, max_bytes=limit).read, max_bytes=limit)
        for member in reader.members():
            if member.is_folder:
                continue
            looked_into = member.size <= TEXT_LIMIT
            held += member.size if looked_into else 0
            if held > HELD_LIMIT:
                raise DecodeError("too_large", f"its small files have more than {HELD_LIMIT} bytes together")
            content = bytearray()
            for chunk in reader.content():
                if looked_into:
                    content += chunk
            contents[member.path] = bytes(content)
            files.append(SourceFile(member.path, member.mode, member.size))
