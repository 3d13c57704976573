"""Checking a built release before it is signed or published: what the hub and every device will check again."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from hub.cli.builder import BUNDLE, CHECKSUMS, ENVELOPE, PAYLOAD
from hub.cli.errors import NotTrusted
from hub.cli.files import read_small
from hub.errors import SetupError
from topics import bundle, codec, envelope, trust
from topics.bundle import FileEntry
from topics.channels import RELEASE_LIMIT
from topics.documents import Release, Root
from topics.errors import DecodeError, TrustError

CHUNK: Final = 1024 * 1024
EMPTY_SHA256: Final = hashlib.sha256().hexdigest()


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
    for check in (_archive, _tar, _checksums, _content):
        made = check(folder, release)
        yield made
        if not made.ok:
            return


def require_bundle(folder: Path, release: Release) -> None:
    """Raise `NotTrusted` unless the folder's bundle is the one that `release` names."""
    for check in bundle_checks(folder, release):
        if not check.ok:
            raise NotTrusted(
                f"{folder / BUNDLE} is not what {release.id} names ({check.detail}); build it again"
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


def _archive(folder: Path, release: Release) -> Check:
    digest, size = hashlib.sha256(), 0
    with _open(folder / BUNDLE) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    ok = (digest.hexdigest(), size) == (release.bundle.sha256, release.bundle.size)
    return Check(
        "bundle",
        ok,
        f"sha256 {digest.hexdigest()}, {size} bytes"
        + ("" if ok else f"; the release says {release.bundle.sha256}, {release.bundle.size} bytes"),
    )


def _tar(folder: Path, release: Release) -> Check:
    digest = hashlib.sha256()
    try:
        with _open(folder / BUNDLE) as file, gzip.GzipFile(fileobj=file) as tar:
            while chunk := tar.read(CHUNK):
                digest.update(chunk)
    except (OSError, EOFError, zlib.error):
        return Check("tar", False, "the bundle is not a gzip file")
    ok = digest.hexdigest() == release.bundle.tar_sha256
    return Check(
        "tar",
        ok,
        f"sha256 {digest.hexdigest()}" + ("" if ok else f"; the release says {release.bundle.tar_sha256}"),
    )


def _checksums(folder: Path, release: Release) -> Check:
    data = read_small(folder / CHECKSUMS, "the checksums of a release", limit=bundle.CHECKSUMS_LIMIT)
    if trust.sha256(data) != release.checksums:
        return Check(
            "checksums",
            False,
            f"{CHECKSUMS} has sha256 {trust.sha256(data)}; the release says {release.checksums}",
        )
    try:
        files = bundle.parse_checksums(data).files
    except DecodeError as error:
        return Check("checksums", False, error.detail)
    return Check("checksums", True, f"{len(files)} files")


def _content(folder: Path, release: Release) -> Check:
    """The files in the archive are those of the checksums document, and agree with the release."""
    named = bundle.parse_checksums((folder / CHECKSUMS).read_bytes()).files
    try:
        found = list(_files(folder / BUNDLE))
        info = bundle.parse_info(_member(folder / BUNDLE, bundle.BUNDLE_JSON))
    except (tarfile.TarError, DecodeError, KeyError, OSError, EOFError, zlib.error) as error:
        return Check("content", False, f"the archive cannot be read: {error}")
    if sorted(found, key=lambda file: file.path) != sorted(named, key=lambda file: file.path):
        return Check("content", False, "the archive holds other files than its checksums name")
    compose = next((file.sha256 for file in found if file.path == bundle.COMPOSE), EMPTY_SHA256)
    if compose != release.compose_sha256:
        return Check("content", False, "compose.yaml is not the one that the release names")
    if (info.role, info.hook, info.version) != (release.role, release.hook, release.version):
        return Check("content", False, "bundle.json and the release name another role, hook or version")
    return Check("content", True, f"role {info.role}, version {info.version}, hook {info.hook}")


def _files(path: Path) -> Iterator[FileEntry]:
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            if not member.isreg():
                raise DecodeError("invalid", f"{member.name!r} is not a regular file")
            digest, source = hashlib.sha256(), archive.extractfile(member)
            read: Callable[[int], bytes] = source.read if source else lambda _: b""
            while chunk := read(CHUNK):
                digest.update(chunk)
            yield FileEntry(member.name, digest.hexdigest(), member.size, member.mode)


def _member(path: Path, name: str) -> bytes:
    with tarfile.open(path, "r:gz") as archive:
        source = archive.extractfile(name)
        return source.read(bundle.BUNDLE_JSON_LIMIT + 1) if source else b""


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise SetupError(f"cannot read {path} ({error.strerror}); build the release again") from None
