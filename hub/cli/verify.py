"""Checking a built release before it is signed or published: what the hub and every device will check again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hub.artifacts.verify import verify_bundle
from hub.cli.errors import NotTrusted
from hub.cli.files import read_small
from hub.cli.releasefolder import BUNDLE, CHECKSUMS, ENVELOPE, PAYLOAD
from hub.errors import Invalid, SetupError
from topics import bundle, codec, envelope, trust
from topics.channels import RELEASE_LIMIT
from topics.documents import Release, Root
from topics.errors import DecodeError, TrustError

CHUNK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Check:
    """One check that was made: its name, whether it passed, and what was seen."""

    name: str
    ok: bool
    detail: str


def read_payload(folder: Path) -> tuple[bytes, Release]:
    """Return the unsigned release of a built folder; raises `SetupError`, and `NotTrusted` for other bytes."""
    data = read_small(folder / PAYLOAD, "a release built by `flaghoist release build`", limit=RELEASE_LIMIT)
    try:
        return data, codec.decode_signed(data, Release, limit=RELEASE_LIMIT)
    except DecodeError as error:
        raise NotTrusted(f"{folder / PAYLOAD} is not a release ({error.detail}); build it again") from None


def read_envelope(folder: Path) -> bytes:
    """Return the signed release of a built folder; raises `SetupError`."""
    return read_small(folder / ENVELOPE, "a release signed by `flaghoist release sign`", limit=RELEASE_LIMIT)


def open_signed(folder: Path, data: bytes) -> envelope.Envelope:
    """Return the envelope of a built folder without believing it; raises `NotTrusted`."""
    try:
        return envelope.open_envelope(data, limit=RELEASE_LIMIT)
    except TrustError as error:
        raise NotTrusted(
            f"{folder / ENVELOPE} is not a signed release ({error.detail}); delete it and sign anew"
        ) from None


def signature_checks(data: bytes, root: Root, *, now: int) -> tuple[list[Check], Release | None]:
    """Return the checks of an envelope against a root at `now` (ms), and the release once it is trusted."""
    checks = [
        Check(
            "root",
            now < root.expires_at,
            f"version {root.version} of fleet {root.fleet}" + ("" if now < root.expires_at else ", expired"),
        )
    ]
    keys, threshold = trust.keys_of(root, "release")
    try:
        opened = envelope.open_envelope(data, limit=RELEASE_LIMIT)
        for entry in opened.signatures:
            checks.append(_signature_check(opened, entry.keyid, keys))
        release = trust.open_release(root, data)
    except TrustError as error:
        return [*checks, Check("release", False, error.detail)], None
    return [
        *checks,
        Check("release", True, f"{release.id}, {threshold} of {len(keys)} release keys needed"),
    ], release


def bundle_checks(folder: Path, release: Release) -> Iterator[Check]:
    """Yield the checks of a folder's bundle against `release`, ending at the first that failed."""
    archive = _archive(folder / BUNDLE, release)
    yield archive
    if not archive.ok:
        return
    try:
        checksums = verify_bundle(folder / BUNDLE, release)
    except Invalid as error:
        yield Check(error.rule, False, error.detail.rstrip("."))
        return
    files = bundle.parse_checksums(checksums).files
    yield Check("content", True, f"{len(files)} files, role {release.role}, hook {release.hook}")
    same = read_small(folder / CHECKSUMS, "a checksums file", limit=bundle.CHECKSUMS_LIMIT) == checksums
    yield Check("checksums", same, CHECKSUMS + (" names every file" if same else " is not of this bundle"))


def require_bundle(folder: Path, release: Release) -> None:
    """Raise `NotTrusted` unless the folder's bundle is the one that `release` names."""
    for check in bundle_checks(folder, release):
        if not check.ok:
            raise NotTrusted(
                f"{folder / BUNDLE} is not what {release.id} names ({check.name}: {check.detail}); build it again"
            )


def _signature_check(opened: envelope.Envelope, keyid: str, keys: dict[str, bytes]) -> Check:
    name = f"signature {keyid}"
    if keyid not in keys:
        return Check(name, False, "not a release key of this root")
    try:
        envelope.verify(opened, "release", {keyid: keys[keyid]}, 1, signer="release")
    except TrustError:
        return Check(name, False, "does not fit the release")
    return Check(name, True, "good")


def _archive(path: Path, release: Release) -> Check:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise SetupError(f"cannot read {path} ({error.strerror}); build the release again") from None
    seen = f"sha256 {digest.hexdigest()}, {size} bytes"
    if (digest.hexdigest(), size) == (release.bundle.sha256, release.bundle.size):
        return Check("bundle", True, seen)
    return Check(
        "bundle", False, f"{seen}; the release says {release.bundle.sha256}, {release.bundle.size} bytes"
    )
