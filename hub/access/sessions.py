"""Sessions of people who logged in with a browser: kept here, so that logging out and revoking end them at once.

A session ends

- when its person logs out, when an admin revokes it, and when the same browser logs in again,
- `idle` after it was last used, to the minute: that is how often its use is written down,
- `life` after its login, whatever happens: then the provider is asked anew who this is and what they may do,
- when what decides about roles is changed by the hub's options,
- and the oldest of a person ends with their `MOST`-th.

Its text is a random 256-bit number that the browser alone has. Kept is its hash, and the ID token (which the provider
wants to see again at the log-out) sealed by it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from hub.access.keys import digest
from hub.access.oidc.flow import Recognised
from hub.access.people import about, name_of, recognise
from hub.caller import Caller
from hub.errors import NotFound, Unauthorised
from hub.events import Event, append
from hub.store import Row, Store, Tx
from hub.times import rfc3339

MOST: Final = 20
"""Sessions of one person at a time."""
STEP_MS: Final = 60_000
KEPT_MS: Final = 86_400_000
"""How long the hash of its ID token outlasts a session: most providers' tokens are good for less than a day."""


class Lives(msgspec.Struct, frozen=True):
    """How long sessions last without use, and at the most, in ms; `terms` is `Oidc.digest`."""

    idle: int
    life: int
    terms: str


class Session(msgspec.Struct, frozen=True):
    """A session that is good now: its public id, the browser's text, and whose it is. The times are in ms."""

    id: str
    text: str
    caller: Caller
    name: str
    expires_at: int
    idle_until: int
    is_due: bool
    """Whether its use is to be written down."""


class Sessions:
    """Use cases of sessions: each is one transaction and one event. `clock` gives ms."""

    def __init__(self, store: Store, lives: Lives, clock: Callable[[], int]) -> None:
        self._store = store
        self._lives = lives
        self._clock = clock

    @property
    def life_s(self) -> int:
        """Seconds that a session lasts at the most."""
        return self._lives.life // 1000

    def open(self, who: Recognised, login: str, former: str | None, request_id: str) -> str:
        """Return the text of a new session. `login` is what only this login had, `former` the browser's last session.

        Raises `Unauthorised` when that login has opened one before.
        """
        now, text, id_ = self._clock(), secrets.token_urlsafe(32), secrets.token_hex(6)
        caller = Caller(who.person.actor, who.role, request_id)
        row = {
            "token": digest(text),
            "id": id_,
            "login": digest(login),
            "actor": caller.name,
            "role": who.role,
            "terms": self._lives.terms,
            "id_token_hash": _signed_part(who.id_token),
            "id_token": bytes(SecretBox(_seal(text)).encrypt(who.id_token.encode())),
            "now": now,
            "expires_at": now + self._lives.life,
        }
        with self._store.write() as tx:
            tx.execute("DELETE FROM sessions WHERE expires_at <= :before", {"before": now - KEPT_MS})
            if tx.one("SELECT 1 FROM sessions WHERE login_sha256 = :login", {"login": row["login"]}):
                raise Unauthorised("This login was used before; begin again.", rule="login_used")
            recognise(tx, who.person, who.role, request_id, now)
            tx.execute(
                "INSERT INTO sessions (token_sha256, id, login_sha256, actor, role, terms, id_token, id_token_sha256, "
                "created_at, seen_at, expires_at) VALUES (:token, :id, :login, :actor, :role, :terms, :id_token, "
                ":id_token_hash, :now, :now, :expires_at)",
                row,
            )
            body = {"session": id_, **about(who.person), "role": who.role}
            append(tx, Event(kind="session.opened", body=body), caller, now)
            self._end_others(tx, caller, former, now)
        return text

    def find(self, text: str, request_id: str) -> Session:
        """Return the session of this text. Raises `Unauthorised` for one that never was or has ended."""
        now = self._clock()
        with self._store.read() as tx:
            row = self._row(tx, text, now)
            if row is None:
                raise Unauthorised("The session has ended; log in again.", rule="session")
            name = name_of(tx, row["actor"])
        return Session(
            row["id"],
            text,
            Caller(row["actor"], row["role"], request_id),
            name or row["actor"],
            row["expires_at"],
            min(row["seen_at"] + self._lives.idle, row["expires_at"]),
            now >= row["seen_at"] + STEP_MS,
        )

    def touch(self, session: Session) -> None:
        """Write down that a session is in use."""
        with self._store.write() as tx:
            tx.execute(
                "UPDATE sessions SET seen_at = :now WHERE id = :id AND ended_at IS NULL AND seen_at < :now",
                {"now": self._clock(), "id": session.id},
            )

    def log_out(self, text: str, caller: Caller) -> str:
        """End a session, and return the ID token that it began with. Raises `Unauthorised`."""
        now = self._clock()
        with self._store.write() as tx:
            row = self._row(tx, text, now)
            if row is None:
                raise Unauthorised("The session has ended; log in again.", rule="session")
            _end(tx, row, "logged out", caller, now)
        try:
            return SecretBox(_seal(text)).decrypt(row["id_token"]).decode()
        except CryptoError:
            return ""

    def all(self) -> list[dict[str, Any]]:
        """Return every session that is good now, the one used last first."""
        now = self._clock()
        with self._store.read() as tx:
            rows = tx.all(
                "SELECT sessions.*, people.name FROM sessions JOIN people ON people.actor = sessions.actor "  # noqa: S608
                f"WHERE {_GOOD} ORDER BY seen_at DESC, id",
                self._good(now),
            )
        return [
            {
                **{name: row[name] for name in ("id", "actor", "name", "role")},
                **{name: rfc3339(row[name]) for name in ("created_at", "seen_at", "expires_at")},
            }
            for row in rows
        ]

    def revoke(self, session_id: str, caller: Caller) -> None:
        """End somebody's session. Raises `NotFound` for one that is not there, or has ended."""
        now = self._clock()
        with self._store.write() as tx:
            row = tx.one(
                f"SELECT * FROM sessions WHERE id = :id AND {_GOOD}",  # noqa: S608  (ours)
                {"id": session_id, **self._good(now)},
            )
            if row is None:
                raise NotFound(f"There is no session {session_id}.")
            _end(tx, row, "revoked", caller, now)

    def _row(self, tx: Tx, text: str, now: int) -> Row | None:
        return tx.one(
            f"SELECT * FROM sessions WHERE token_sha256 = :token AND {_GOOD}",  # noqa: S608  (ours)
            {"token": digest(text), **self._good(now)},
        )

    def _good(self, now: int) -> dict[str, Any]:
        return {"now": now, "used_since": now - self._lives.idle, "terms": self._lives.terms}

    def _end_others(self, tx: Tx, caller: Caller, former: str | None, now: int) -> None:
        before = self._row(tx, former, now) if former else None
        if before is not None:
            _end(tx, before, "logged in again", caller, now)
        rows = tx.all(
            f"SELECT * FROM sessions WHERE actor = :actor AND {_GOOD} ORDER BY created_at DESC, id",  # noqa: S608
            {"actor": caller.name, **self._good(now)},
        )
        for row in rows[MOST:]:
            _end(tx, row, "too many sessions", caller, now)


_GOOD: Final = "ended_at IS NULL AND expires_at > :now AND seen_at > :used_since AND terms = :terms"


def opened_by(tx: Tx, token: str) -> bool:
    """Whether a token is the ID token of a browser's login.

    Logging out shows it to the provider in an address, which stays in the browser's history: it must open nothing.
    """
    query = "SELECT 1 FROM sessions WHERE id_token_sha256 = :hash"
    return tx.one(query, {"hash": _signed_part(token)}) is not None


def _signed_part(token: str) -> str:
    # Without the signature, whose last letter can be written in several ways.
    return digest(token.rpartition(".")[0])


def _end(tx: Tx, row: Row, reason: str, caller: Caller, now: int) -> None:
    tx.execute("UPDATE sessions SET ended_at = :now WHERE id = :id", {"now": now, "id": row["id"]})
    body = {"session": row["id"], "of": row["actor"]}
    append(tx, Event(kind="session.ended", reason=reason, body=body), caller, now)


def _seal(text: str) -> bytes:
    return hashlib.sha256(b"flaghoist-session" + text.encode()).digest()
