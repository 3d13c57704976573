"""Use cases of artifacts."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

from hub import trustroots
from hub.artifacts import signedurls
from hub.artifacts.files import BundleFiles
from hub.artifacts.limits import MAX_BUNDLE
from hub.artifacts.pace import Ceiling
from hub.artifacts.pruning import prune
from hub.artifacts.retention import ROLLBACKS
from hub.artifacts.validate import UPLOAD_LIMIT, validate
from hub.artifacts.verify import verify_bundle
from hub.caller import Caller
from hub.errors import Conflict, NotFound, TooLarge
from hub.events import Event, append
from hub.store import Row, Store, Tx
from hub.times import rfc3339
from topics import bundle, changes
from topics.documents import Release
from topics.errors import TrustError
from topics.trust import open_release, sha256


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """How artifacts are served: `public_url` is the API's address for devices, `secret` signs URLs.

    `max_bundle` is the largest bundle in bytes, `bytes_per_second` the ceiling of all downloads together (0: none),
    `rollbacks` how many rollbacks one after another retention keeps the bundles of.
    """

    fleet: str
    public_url: str = ""
    secret: bytes
    max_bundle: int = MAX_BUNDLE
    bytes_per_second: int = 0
    rollbacks: int = ROLLBACKS


class Artifacts:
    """Bundles of one fleet. `ceiling` bounds what downloads take of the network."""

    def __init__(self, store: Store, files: BundleFiles, clock: Callable[[], int], serving: Serving) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._serving = serving
        self.ceiling = Ceiling(serving.bytes_per_second)

    async def upload(
        self, role: str, release_id: str, chunks: AsyncIterator[bytes], caller: Caller
    ) -> dict[str, Any]:
        """Take in a release's bundle; what passes every check makes a draft `published`."""
        release = await asyncio.to_thread(self._signed, role, release_id)
        if release.bundle.size > self._serving.max_bundle:
            raise TooLarge(
                f"The bundle has {release.bundle.size} bytes, this hub takes {self._serving.max_bundle}.",
                rule="max_bundle",
            )
        name = f"{release_id}.{secrets.token_hex(4)}"
        incoming = await self._files.receive(
            chunks, name=name, size=release.bundle.size, sha256=release.bundle.sha256
        )
        try:
            checksums = await asyncio.to_thread(self._keep, name, incoming, release)
        finally:
            incoming.unlink(missing_ok=True)
        return await asyncio.to_thread(self._record, release, checksums, caller)

    def _keep(self, name: str, incoming: Path, release: Release) -> bytes:
        unpacked = self._files.unpack(name)
        try:
            checksums = verify_bundle(incoming, release, unpacked)
            unpacked.move_into(self._files.blobs)
            self._files.keep(incoming, release.bundle.sha256)
        finally:
            unpacked.remove()
        return checksums

    async def validate(self, chunks: AsyncIterator[bytes]) -> dict[str, Any]:
        """Say all that is wrong with an archive; nothing of it is kept. Raises `TooLarge`."""
        incoming, size, _ = await self._files.receive_any(
            chunks,
            name=f"validate.{secrets.token_hex(4)}",
            limit=UPLOAD_LIMIT,
            too_large=f"The archive is larger than {UPLOAD_LIMIT} bytes.",
        )
        try:
            return await asyncio.to_thread(validate, incoming, size)
        finally:
            incoming.unlink(missing_ok=True)

    def _signed(self, role: str, release_id: str) -> Release:
        with self._store.read() as tx:
            row = _release(tx, role, release_id)
            try:
                return open_release(trustroots.latest(tx), row["envelope"], role=role)
            except TrustError as error:
                raise Conflict(
                    f"{release_id} is no longer trusted: {error.detail}.", rule=error.check
                ) from None

    def _record(self, release: Release, checksums: bytes, caller: Caller) -> dict[str, Any]:
        now = self._clock()
        with self._store.write() as tx:
            tx.execute(
                "INSERT INTO artifacts (release_id, role, sha256, size, checksums, created_at) "
                "VALUES (:id, :role, :sha256, :size, :checksums, :now) ON CONFLICT (release_id) DO NOTHING",
                {
                    "id": release.id,
                    "role": release.role,
                    "sha256": release.bundle.sha256,
                    "size": release.bundle.size,
                    "checksums": checksums,
                    "now": now,
                },
            )
            published = tx.execute(
                "UPDATE releases SET state = 'published', updated_at = :now WHERE id = :id AND state = 'draft'",
                {"id": release.id, "now": now},
            )
            if published:
                body = {"sha256": release.bundle.sha256, "size": release.bundle.size}
                event = Event(kind="release.published", release_id=release.id, role=release.role, body=body)
                append(tx, event, caller, now)
        return {"release": release.id, "sha256": release.bundle.sha256, "size": release.bundle.size}

    def find(self, role: str, release_id: str) -> tuple[Path, str]:
        """Return a published bundle's file and SHA-256; raises `NotFound` and `Damaged`."""
        with self._store.read() as tx:
            row = _artifact(tx, role, release_id)
        return self._files.whole(row["sha256"], row["size"]), row["sha256"]

    def blob(self, digest: str) -> Path:
        """Return one file of a bundle by its SHA-256; raises `NotFound` and `Damaged`."""
        if len(digest) != 64 or digest.strip("0123456789abcdef"):
            raise NotFound(f"{digest[:80]!r} is not the SHA-256 of a file.", rule="artifact_missing")
        return self._files.blobs.whole(digest)

    def checksums(self, role: str, release_id: str) -> tuple[bytes, str]:
        """Return the canonical checksums document of a published bundle and its SHA-256; raises `NotFound`."""
        with self._store.read() as tx:
            data = bytes(_artifact(tx, role, release_id)["checksums"])
        return data, sha256(data)

    def packed_checksums(self, role: str, release_id: str) -> tuple[bytes, str]:
        """Return the same document as a gzip file, and that file's SHA-256; raises `NotFound`."""
        data, digest = self.checksums(role, release_id)
        packed = self._files.packed.get(digest, lambda: data)
        return packed, sha256(packed)

    def changes(self, role: str, release_id: str, before: str) -> tuple[bytes, str]:
        """Return what leads from the checksums of the release `before` to a release's, packed; raises `NotFound`."""
        old, old_digest = self.checksums(role, before)
        new, digest = self.checksums(role, release_id)

        def make() -> bytes:
            return changes.difference(bundle.parse_checksums(old), bundle.parse_checksums(new))

        packed = self._files.packed.get(f"{digest}.{old_digest}", make)
        return packed, sha256(packed)

    def envelope(self, role: str, release_id: str) -> tuple[bytes, str]:
        """Return a declared release's envelope and its SHA-256; raises `NotFound`."""
        with self._store.read() as tx:
            data = bytes(_release(tx, role, release_id)["envelope"])
        return data, sha256(data)

    def signed_url(self, role: str, release_id: str, seconds: int) -> dict[str, Any]:
        """Return `{"url", "expires_at"}` of an address that opens the bundle for `seconds`; raises `NotFound`."""
        with self._store.read() as tx:
            _artifact(tx, role, release_id)
        expires_at = self._clock() // 1000 + seconds
        path = signedurls.path(self._serving.secret, role, release_id, expires_at)
        return {"url": self._serving.public_url + path, "expires_at": rfc3339(expires_at * 1000)}

    def check_url(self, role: str, release_id: str, expires_at: int, signature: str) -> None:
        """Raise `Forbidden` unless the hub signed this address and its time has not come."""
        now = self._clock() // 1000
        signedurls.check(self._serving.secret, role, release_id, expires_at, signature, now=now)

    def prune(self, caller: Caller, *, dry_run: bool = False) -> dict[str, Any]:
        """Remove the bundles that nothing can need; see `hub.artifacts.retention`."""
        return prune(
            self._store,
            self._files,
            self._serving.fleet,
            caller,
            self._clock(),
            rollbacks=self._serving.rollbacks,
            dry_run=dry_run,
        )


def _release(tx: Tx, role: str, release_id: str) -> Row:
    row = tx.one("SELECT * FROM releases WHERE id = :id AND role = :role", {"id": release_id, "role": role})
    if row is None:
        raise NotFound(f"There is no release {release_id} of role {role}.")
    return row


def _artifact(tx: Tx, role: str, release_id: str) -> Row:
    row = tx.one(
        "SELECT * FROM artifacts WHERE release_id = :id AND role = :role", {"id": release_id, "role": role}
    )
    if row is None:
        raise NotFound(f"There is no bundle of release {release_id} of role {role}.")
    return row
