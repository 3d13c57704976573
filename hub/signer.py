"""Signs what a retained topic must hold and writes it down, in the transaction of the change.

Whether and when the broker holds it is the hoister's business; the store already says what is wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from nacl.signing import SigningKey

from hub.errors import Conflict
from hub.store import Tx
from topics import codec, envelope
from topics.channels import MANIFEST_LIMIT

CLOCK_BEHIND_MS: Final = 60_000
"""How far the hub's clock may stand behind its own last signature before it refuses to sign."""

MANIFEST_LIFETIME_MS: Final = 14 * 86_400_000


class Signer:
    """Holds the deployment key of one fleet."""

    def __init__(self, fleet: str, key: SigningKey) -> None:
        self.fleet = fleet
        self._key = key

    @property
    def public_key(self) -> bytes:
        """The deployment key's public half, which a root must name."""
        return bytes(self._key.verify_key)

    def sign(self, document: msgspec.Struct, kind: str) -> bytes:
        """Return `document` in an envelope signed by the deployment key."""
        return envelope.sign(codec.encode(document), kind, [self._key])

    def hoist(
        self,
        tx: Tx,
        topic: str,
        kind: str,
        build: Callable[[int], msgspec.Struct],
        *,
        now: int,
        expires_at: int = 0,
    ) -> bytes:
        """Sign `build(issued_at)` as the newest document of `topic` and store it as wanted there.

        Raises `Conflict` when the clock stands behind the topic's last signature, or the document is too large.
        """
        last = tx.one("SELECT issued_at FROM retained WHERE topic = :topic", {"topic": topic})
        last_issued = last["issued_at"] if last else 0
        if now < last_issued - CLOCK_BEHIND_MS:
            raise Conflict(
                f"This hub's clock is {(last_issued - now) // 1000} s behind what it already signed for {topic}; "
                "set the clock right and try again.",
                rule="clock_behind",
            )
        payload = self.sign(build(max(last_issued + 1, now)), kind)
        if len(payload) > MANIFEST_LIMIT:
            raise Conflict(
                f"The document for {topic} would be {len(payload)} bytes, and devices accept {MANIFEST_LIMIT}; "
                "shorten changelogs, feature flags or waypoints.",
                rule="manifest_too_large",
            )
        tx.execute(
            "INSERT INTO retained (topic, revision, issued_at, expires_at, payload) "
            "VALUES (:topic, (SELECT COALESCE(MAX(revision), 0) + 1 FROM retained), :issued_at, :expires_at, :payload) "
            "ON CONFLICT (topic) DO UPDATE SET revision = excluded.revision, issued_at = excluded.issued_at, "
            "expires_at = excluded.expires_at, payload = excluded.payload",
            {
                "topic": topic,
                "issued_at": max(last_issued + 1, now),
                "expires_at": expires_at,
                "payload": payload,
            },
        )
        return payload
