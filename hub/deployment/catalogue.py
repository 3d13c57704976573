"""Taking releases in: signed elsewhere, never changed, and kept for good."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

import msgspec

from hub import trustroots
from hub.caller import Caller
from hub.deployment.manifests import ensure_role, hoist_where
from hub.deployment.policy import Policy
from hub.deployment.records import get_release, record, release_view
from hub.errors import Conflict, Invalid
from hub.signer import Signer
from hub.store import Row, Store, Tx
from topics.channels import RELEASE_LIMIT
from topics.envelope import open_envelope
from topics.errors import TrustError
from topics.trust import open_release


class Catalogue:
    """The releases of one fleet. `clock` gives ms."""

    def __init__(self, store: Store, signer: Signer, sources: list[str], clock: Callable[[], int]) -> None:
        self._store = store
        self._signer = signer
        self._sources = sources
        self._clock = clock

    def declare(self, envelope: str, policy: Policy | None, caller: Caller) -> dict[str, Any]:
        """Take in a signed release as `draft`. The same envelope again answers the same release."""
        policy = policy or Policy()
        try:
            data = base64.b64decode(envelope, validate=True)
        except (ValueError, binascii.Error):
            raise Invalid("envelope must be base64.", rule="envelope") from None
        now = self._clock()
        with self._store.write() as tx:
            root = trustroots.latest(tx)
            try:
                release = open_release(root, data)
            except TrustError as error:
                raise Conflict(
                    f"The release is not trusted: {error.detail}; sign it with keys that root {root.version} names.",
                    rule=error.check,
                ) from None
            known = tx.one("SELECT * FROM releases WHERE id = :id", {"id": release.id})
            if known is not None:
                return self._declare_again(tx, known, data, caller, now)
            taken = tx.one(
                "SELECT id FROM releases WHERE role = :role AND sequence = :sequence",
                {"role": release.role, "sequence": release.sequence},
            )
            if taken is not None:
                raise Conflict(
                    f"Sequence {release.sequence} of {release.role} is taken by {taken['id']}; take a higher one.",
                    rule="sequence",
                )
            tx.execute(
                "INSERT INTO releases (id, role, sequence, commit_id, version, floor, envelope, policy, state, "
                "created_at, updated_at) VALUES (:id, :role, :sequence, :commit_id, :version, :floor, :envelope, "
                ":policy, 'draft', :now, :now)",
                {
                    "id": release.id,
                    "role": release.role,
                    "sequence": release.sequence,
                    "commit_id": release.commit,
                    "version": release.version,
                    "floor": release.floor,
                    "envelope": data,
                    "policy": msgspec.json.encode(policy).decode(),
                    "now": now,
                },
            )
            ensure_role(tx, self._signer, release.role, self._sources, now)
            record(tx, "release.declared", release.id, release.role, caller, now)
            return release_view(get_release(tx, release.id))

    def _declare_again(self, tx: Tx, known: Row, data: bytes, caller: Caller, now: int) -> dict[str, Any]:
        """The same release again, perhaps with other signatures: that is how release keys are replaced."""
        if known["envelope"] == data:
            return release_view(get_release(tx, known["id"]))
        if _payload(known["envelope"]) != _payload(data):
            raise Conflict(
                f"{known['id']} exists with other content; a release never changes, make a new one.",
                rule="immutable",
            )
        tx.execute("UPDATE releases SET envelope = :data WHERE id = :id", {"data": data, "id": known["id"]})
        offered = "stable_id = :id OR candidate_id = :id OR waypoints LIKE :quoted"
        params = {"id": known["id"], "quoted": f'%"{known["id"]}"%'}
        hoist_where(tx, self._signer, offered, params, self._sources, now)
        record(tx, "release.signed_again", known["id"], known["role"], caller, now)
        return release_view(get_release(tx, known["id"]))


def _payload(envelope: bytes) -> bytes:
    return open_envelope(envelope, limit=RELEASE_LIMIT).payload
