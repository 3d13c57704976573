"""Use cases of artifacts."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from hub import trustroots
from hub.artifacts.files import BundleFiles
from hub.artifacts.verify import verify_bundle
from hub.caller import Caller
from hub.errors import Conflict, NotFound
from hub.events import Event, append
from hub.store import Row, Store, Tx
from topics.documents import Release
from topics.errors import TrustError
from topics.trust import open_release


class Artifacts:
    """Bundles of one fleet."""

    def __init__(self, store: Store, files: BundleFiles, clock: Callable[[], int]) -> None:
        self._store = store
        self._files = files
        self._clock = clock

    async def upload(
        self, role: str, release_id: str, chunks: AsyncIterator[bytes], caller: Caller
    ) -> dict[str, Any]:
        """Take in a release's bundle; what passes every check makes a draft `published`."""
        release = await asyncio.to_thread(self._signed, role, release_id)
        incoming = await self._files.receive(
            chunks,
            name=f"{release_id}.{secrets.token_hex(4)}",
            size=release.bundle.size,
            sha256=release.bundle.sha256,
        )
        try:
            checksums = await asyncio.to_thread(verify_bundle, incoming, release)
            await asyncio.to_thread(self._files.keep, incoming, release.bundle.sha256)
        except BaseException:
            incoming.unlink(missing_ok=True)
            raise
        return await asyncio.to_thread(self._record, release, checksums, caller)

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

    def find(self, role: str, release_id: str) -> tuple[Path, str, int]:
        """Return a published bundle's file, SHA-256 and size (bytes); raises `NotFound` and `Damaged`."""
        with self._store.read() as tx:
            row = _artifact(tx, role, release_id)
        return self._files.whole(row["sha256"], row["size"]), row["sha256"], row["size"]

    def checksums(self, role: str, release_id: str) -> bytes:
        """Return the canonical checksums document of a published bundle; raises `NotFound`."""
        with self._store.read() as tx:
            return bytes(_artifact(tx, role, release_id)["checksums"])


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
