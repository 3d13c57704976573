"""What is in a release bundle: `bundle.json`, and the checksums document that names every file.

A bundle is a tar.gz of regular files and directories only, with relative paths. The signed release names the
hash of the archive, of the tar inside it, and of the checksums document, so any of the three ways to get the
files on a device (whole, from a mirror, file by file) ends in the same check.

    >>> path("files/app.py")
    'files/app.py'
    >>> path("../etc/passwd")
    Traceback (most recent call last):
    topics.errors.DecodeError: invalid: '../etc/passwd' is not a path inside a bundle
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from topics import codec
from topics.documents import Requires
from topics.errors import DecodeError
from topics.fields import Count, Integer, Name, Role, Sha256, Text

BUNDLE_JSON: Final = "bundle.json"
COMPOSE: Final = "compose.yaml"
MODES: Final = (0o644, 0o755)
"""Modes a file in a bundle may have; no set-uid, no group or world write."""

MAX_FILES: Final = 20_000
CHECKSUMS_LIMIT: Final = 8 * 1024 * 1024
BUNDLE_JSON_LIMIT: Final = 64 * 1024


def unpacked_limit(packed: int) -> int:
    """Return how many bytes a bundle of `packed` bytes may unpack to: 64 MB, and 100 times its signed size.

    gzip packs text ten to thirty times; what unpacks further than this was made to fill a disk.
    """
    return 64 * 1024 * 1024 + 100 * packed


class ExecSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the `exec` hook runs the release: a command, relative to the release's folder."""

    command: Annotated[list[Text], Meta(min_length=1, max_length=64)]
    stop_seconds: Annotated[int, Meta(ge=1, le=300)] = 10


VariableName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}\Z")]
"""A variable of an env template, as `device.env` sets it."""


class BundleInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """`bundle.json`: what the role's author decides; the signed release repeats what devices decide by."""

    format: Literal[1]
    role: Role
    version: Name
    hook: Role
    exec: ExecSpec | None = None
    probation_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 30
    probe_interval_seconds: Annotated[float, Meta(ge=0.1, le=3600)] = 5.0
    allow_unpinned_images: bool = False
    variables: Annotated[list[VariableName], Meta(max_length=256)] | None = None
    floor: Count = 0
    feature_flags: dict[Name, bool | Integer | Name] = {}
    migration: Text = ""
    requires: Requires = Requires()


class FileEntry(msgspec.Struct, frozen=True):
    """One regular file of a bundle; `mode` is one of `MODES`."""

    path: Text
    sha256: Sha256
    size: Count
    mode: Annotated[int, Meta(ge=0, le=0o777)]


class Checksums(msgspec.Struct, frozen=True):
    """Every regular file of a bundle, sorted by path. Its canonical bytes are what the release's hash covers."""

    files: Annotated[list[FileEntry], Meta(max_length=MAX_FILES)]
    format: Literal[1] = 1


def parse_info(data: bytes) -> BundleInfo:
    """Return `bundle.json`; raises `DecodeError`."""
    return codec.decode(data, BundleInfo, limit=BUNDLE_JSON_LIMIT, content_type=codec.JSON)


def checksums_bytes(files: list[FileEntry]) -> bytes:
    """Return the canonical checksums document of `files` (JSON, keys and paths sorted)."""
    return codec.encode(Checksums(sorted(files, key=lambda entry: entry.path)), codec.JSON)


def parse_checksums(data: bytes) -> Checksums:
    """Return a checksums document whose every path and mode may stand in a bundle; raises `DecodeError`."""
    document = codec.decode(data, Checksums, limit=CHECKSUMS_LIMIT, content_type=codec.JSON)
    folded: set[str] = set()
    for entry in document.files:
        path(entry.path)
        if entry.mode not in MODES:
            raise DecodeError(
                "invalid", f"{entry.path!r} has mode {entry.mode:o}, a bundle holds 644 and 755 only"
            )
        folded.add(fold(entry.path))
    if len(folded) != len(document.files):
        raise DecodeError("invalid", "two paths are the same, or differ only by case")
    for name in folded:
        parent = name.rpartition("/")[0]
        while parent:
            if parent in folded:
                raise DecodeError("invalid", f"{parent!r} is a file and a folder")
            parent = parent.rpartition("/")[0]
    return document


def path(text: str) -> str:
    """Return `text` if it can name a file inside a bundle, else raise `DecodeError`.

    Relative, `/`-separated, normalised, printable, at most 512 characters and 32 levels.
    """
    levels = text.split("/")
    good = (
        0 < len(text) <= 512
        and len(levels) <= 32
        # Before `encode`, which lone surrogates (a tar member's name that is not UTF-8) would break.
        and text.isprintable()
        and all(level not in ("", ".", "..") and len(level.encode()) <= 255 for level in levels)
        and "\\" not in text
        and unicodedata.is_normalized("NFC", text)
    )
    if not good:
        raise DecodeError("invalid", f"{text!r} is not a path inside a bundle")
    return text


def fold(text: str) -> str:
    """Return the form under which two paths collide on a file system that folds case."""
    return unicodedata.normalize("NFC", text.casefold())
