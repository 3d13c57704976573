"""API keys: made once, shown once, kept as a hash, with a role and an end."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from hub.caller import Caller
from hub.errors import Conflict, Invalid, NotFound
from hub.events import Event, append
from hub.store import Store
from hub.times import rfc3339
from topics.fields import Name

DAY_S: Final = 86_400
FIRST: Final = "admin"
"""Id of the key that the hub makes at its first start and keeps in `admin.token`."""
NOT_KEYS: Final = ("oidc:", "rule:", "device:")
"""How actors of other kinds begin: a key that is called like a person would pass for them in an approval."""


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new key: whom it is for, what it may do, and its life in seconds (a minute to two years)."""

    name: Annotated[Name, Meta(min_length=1)]
    role: Literal["viewer", "operator", "release-manager", "admin"] = "viewer"
    expires_in: Annotated[int, Meta(ge=60, le=730 * DAY_S)] = 90 * DAY_S


def digest(key: str) -> str:
    """Return what is kept of a key. A random 256-bit key needs no slow hash, and no time tells of it."""
    return hashlib.sha256(key.encode()).hexdigest()


class ApiKeys:
    """Use cases of API keys: each is one transaction and one event. `clock` gives ms."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock

    def create(self, request: KeyRequest, caller: Caller) -> dict[str, Any]:
        """Make a key. Its text is in this answer and nowhere else. Raises `Invalid` for a name of another kind."""
        if request.name.startswith(NOT_KEYS):
            raise Invalid(
                f"A key's name begins neither with {' nor with '.join(NOT_KEYS)}: others are named so.",
                rule="name",
            )
        if not request.name.isprintable() or request.name != " ".join(request.name.split()):
            # Two names that look the same would be two people to whoever reads the audit, and one more who approves.
            raise Invalid(
                "A key's name is in plain sight: no blanks around it and no characters that nobody sees.",
                rule="name",
            )
        now, key_id, key = self._clock(), secrets.token_hex(6), f"fhkey_{secrets.token_urlsafe(32)}"
        expires_at = now + request.expires_in * 1000
        with self._store.write() as tx:
            tx.execute(
                "INSERT INTO operators (token_sha256, id, name, role, created_at, created_by, expires_at) "
                "VALUES (:hash, :id, :name, :role, :now, :by, :expires_at)",
                {
                    "hash": digest(key),
                    "id": key_id,
                    "name": request.name,
                    "role": request.role,
                    "now": now,
                    "by": caller.name,
                    "expires_at": expires_at,
                },
            )
            made = {
                "id": key_id,
                "name": request.name,
                "role": request.role,
                "expires_at": rfc3339(expires_at),
            }
            append(tx, Event(kind="api_key.created", body=made), caller, now)
        return {**made, "key": key}

    def all(self) -> list[dict[str, Any]]:
        """Return every key but its text, the newest first; `expired` ones stay listed until they are revoked."""
        now = self._clock()
        with self._store.read() as tx:
            rows = tx.all(
                "SELECT id, name, role, created_at, created_by, expires_at FROM operators "
                "ORDER BY created_at DESC, expires_at IS NULL, id"
            )
        return [
            {
                "id": row["id"],
                "name": row["name"],
                "role": row["role"],
                "created_at": rfc3339(row["created_at"]),
                "created_by": row["created_by"],
                "expires_at": rfc3339(row["expires_at"]),
                "expired": row["expires_at"] is not None and row["expires_at"] <= now,
            }
            for row in rows
        ]

    def revoke(self, key_id: str, caller: Caller) -> None:
        """Refuse a key from now on. Raises `NotFound`, and `Conflict` for the hub's first key."""
        if key_id == FIRST:
            raise Conflict(
                "The first key comes from the file admin.token; delete the file and start the hub anew to replace it.",
                rule="first_key",
            )
        now = self._clock()
        with self._store.write() as tx:
            row = tx.one("SELECT name, role FROM operators WHERE id = :id", {"id": key_id})
            if row is None:
                raise NotFound(f"There is no API key {key_id}.")
            tx.execute("DELETE FROM operators WHERE id = :id", {"id": key_id})
            body = {"id": key_id, "name": row["name"], "role": row["role"]}
            append(tx, Event(kind="api_key.revoked", body=body), caller, now)
