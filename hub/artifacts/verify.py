"""Checks an uploaded bundle against the signed release it claims to be. Streams; holds no bundle in memory."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

from hub.errors import Invalid
from topics import bundle
from topics.archive import Gunzip, Read, Reader
from topics.documents import Release
from topics.errors import DecodeError


class Unpack(Protocol):
    """Takes the files of a bundle one after another, in pieces."""

    def write(self, chunk: bytes, /) -> None:
        """Add to the present file."""

    def end(self, sha256: str, /) -> None:
        """End the present file, which has that hash."""


def verify_bundle(path: Path, release: Release, unpack: Unpack | None = None) -> bytes:
    """Return the canonical checksums document of the bundle at `path`; raises `Invalid` naming what differs.

    The archive's own hash and size were checked while it was received. `unpack` gets every file on the way, and has
    to forget them when this raises.
    """
    max_bytes = bundle.unpacked_limit(release.bundle.size)
    try:
        with path.open("rb") as packed:
            return _verify_tar(Gunzip(packed.read, max_bytes=max_bytes).read, release, max_bytes, unpack)
    except DecodeError as error:
        raise Invalid(f"The bundle of {release.id} is refused: {error.detail}.", rule="archive") from None


def _verify_tar(read: Read, release: Release, max_bytes: int, unpack: Unpack | None) -> bytes:
    reader = Reader(read, max_bytes=max_bytes)
    files: list[bundle.FileEntry] = []
    info: bundle.BundleInfo | None = None
    compose = hashlib.sha256()
    for member in reader.members():
        digest, head = hashlib.sha256(), b""
        for chunk in reader.content():
            digest.update(chunk)
            if unpack and not member.is_folder:
                unpack.write(chunk)
            if member.path == bundle.BUNDLE_JSON and len(head) <= bundle.BUNDLE_JSON_LIMIT:
                head += chunk
        if member.is_folder:
            continue
        if unpack:
            unpack.end(digest.hexdigest())
        files.append(bundle.FileEntry(member.path, digest.hexdigest(), member.size, member.mode))
        if member.path == bundle.BUNDLE_JSON:
            info = bundle.parse_info(head)
        elif member.path == bundle.COMPOSE:
            compose = digest
    checksums = bundle.checksums_bytes(files)
    _agree(release, "tar_sha256", reader.sha256, release.bundle.tar_sha256)
    _agree(release, "checksums", hashlib.sha256(checksums).hexdigest(), release.checksums)
    _agree(release, "compose_sha256", compose.hexdigest(), release.compose_sha256)
    if info is None:
        raise Invalid(f"The bundle of {release.id} has no bundle.json.", rule="bundle_json")
    _agree(release, "role", info.role, release.role)
    _agree(release, "hook", info.hook, release.hook)
    return checksums


def _agree(release: Release, what: str, found: str, signed: str) -> None:
    if found != signed:
        raise Invalid(
            f"The bundle is not the one that {release.id} was signed for: {what} is {found}, signed is {signed}.",
            rule=what,
        )
