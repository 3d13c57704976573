"""`Idempotency-Key`: a POST that is sent again, since its answer was lost, gets that answer and does nothing.

The key belongs to the token that sent it, for a day. Answers may hold secrets (an enrolment token, an API key), so they
are sealed with a key that only the request itself can make: the database alone opens none of them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any, Final

import msgspec
from litestar.enums import ScopeType
from litestar.exceptions import ClientException
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from nacl.secret import SecretBox

from hub.auth import Authenticator
from hub.caller import RANKS
from hub.errors import Conflict, Invalid, RequestError, TooLarge
from hub.store import Store

KEPT_MS: Final = 86_400_000
"""How long an answer is kept."""
PATIENCE_MS: Final = 60_000
"""How long a request without an answer keeps its key: longer than any takes. A hub that was killed leaves such ones."""
LIMIT: Final = 64 * 1024
"""Largest body, and largest answer that is kept, in bytes. Bundles are larger; they need no key."""
LONGEST: Final = 255
"""Characters of a key."""


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What was answered."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Request(msgspec.Struct, frozen=True):
    """A request with a key: what it is known by, what it asks, and what seals its answer."""

    id: str
    asks: bytes
    seal: bytes


def identify(token: str, key: str, asked: tuple[bytes, ...]) -> Request:
    """Return what a request is known by; `asked` is everything that makes it another one. Raises `Invalid`."""
    if not (0 < len(key) <= LONGEST and key.isascii() and key.isprintable()):
        raise Invalid(f"Idempotency-Key must be 1 to {LONGEST} plain characters.", rule="idempotency_key")

    def digest(purpose: str) -> bytes:
        return hashlib.sha256(b"\0".join(text.encode() for text in (purpose, token, key))).digest()

    parts = b"".join(hashlib.sha256(part).digest() for part in asked)
    return Request(digest("id").hex(), hashlib.sha256(parts).digest(), digest("seal"))


class Answers:
    """The answers of the last day. `clock` gives ms."""

    def __init__(self, store: Callable[[], Store], clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock

    def begin(self, request: Request) -> Answer | None:
        """Return the answer that was given before, or None when the request is now ours to carry out.

        Raises `Invalid` when the key was used for something else, `Conflict` while that is being carried out.
        """
        now = self._clock()
        with self._store().write() as tx:
            tx.execute("DELETE FROM idempotency WHERE claimed_at <= :before", {"before": now - KEPT_MS})
            row = tx.one("SELECT * FROM idempotency WHERE id = :id", {"id": request.id})
            if row is not None and row["asks"] != request.asks:
                raise Invalid(
                    "This Idempotency-Key was used for another request; take a new key for a new request.",
                    rule="idempotency_key_reused",
                )
            if row is not None and row["answer"] is not None:
                opened = SecretBox(request.seal).decrypt(row["answer"])
                return msgspec.msgpack.decode(opened, type=Answer)
            if row is not None and now - row["claimed_at"] < PATIENCE_MS:
                raise Conflict(
                    "A request with this Idempotency-Key is being carried out; ask again in a minute.",
                    rule="idempotency_key_in_use",
                )
            tx.execute(
                "INSERT INTO idempotency (id, asks, claimed_at) VALUES (:id, :asks, :now) "
                "ON CONFLICT (id) DO UPDATE SET claimed_at = excluded.claimed_at",
                {"id": request.id, "asks": request.asks, "now": now},
            )
        return None

    def keep(self, request: Request, answer: Answer) -> None:
        """Keep what was answered."""
        sealed = bytes(SecretBox(request.seal).encrypt(msgspec.msgpack.encode(answer)))
        with self._store().write() as tx:
            tx.execute(
                "UPDATE idempotency SET answer = :answer WHERE id = :id", {"answer": sealed, "id": request.id}
            )

    def forget(self, request: Request) -> None:
        """Let the key be used again: nothing was done."""
        with self._store().write() as tx:
            tx.execute("DELETE FROM idempotency WHERE id = :id AND answer IS NULL", {"id": request.id})


class Idempotency(ASGIMiddleware):
    """Honours the key of JSON posts by operators. Only successes are kept: what was refused changed nothing."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, answers: Answers, authenticator: Authenticator) -> None:
        self._answers = answers
        self._authenticator = authenticator

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Answer as before, or carry out and keep the answer."""
        headers = dict(scope["headers"])
        key = headers.get(b"idempotency-key")
        kind = headers.get(b"content-type", b"application/json")
        if key is None or scope.get("method") != "POST" or not kind.startswith(b"application/json"):
            await next_app(scope, receive, send)
            return
        if not await self._is_operator(scope):
            # Refused further on, or a device, whose reports have numbers of their own.
            await next_app(scope, receive, send)
            return
        body = await _body(receive)
        asked = (scope["path"].encode(), scope.get("query_string", b""), body)
        request = identify(self._authenticator.credentials(scope), key.decode("latin-1"), asked)
        answer = await asyncio.to_thread(self._answers.begin, request)
        if answer is not None:
            await _send(send, answer, [(b"idempotency-replayed", b"true")])
            return
        kept = _Kept()
        try:
            await next_app(scope, _again(body, receive), kept.take)
        except Exception:
            # Not what is cancelled: a handler on a thread goes on, and may yet do what was asked.
            await asyncio.to_thread(self._answers.forget, request)
            raise
        answer = Answer(kept.status, kept.headers, b"".join(kept.parts))
        is_kept = 200 <= answer.status < 300 and len(answer.body) <= LIMIT
        if is_kept:
            await asyncio.to_thread(self._answers.keep, request, answer)
        else:
            await asyncio.to_thread(self._answers.forget, request)
        await _send(send, answer, [])

    async def _is_operator(self, scope: Scope) -> bool:
        # A session's request is looked at whole, CSRF token included: an answer that is given again is given here.
        try:
            return (await self._authenticator.identify(scope)).role in RANKS
        except RequestError:
            return False


class _Kept:
    """An answer, taken instead of sent."""

    def __init__(self) -> None:
        self.status = 500
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []

    async def take(self, message: Message) -> None:
        """Take one message."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [(bytes(name), bytes(value)) for name, value in message["headers"]]
        elif message["type"] == "http.response.body":
            self.parts.append(message.get("body", b""))


async def _body(receive: Receive) -> bytes:
    found = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            # Half a request is none: it would be carried out, and its key refused to the whole one.
            raise ClientException("The connection ended before the body did.")
        found += message.get("body", b"")
        if len(found) > LIMIT:
            raise TooLarge(f"With an Idempotency-Key a body may have {LIMIT} bytes.", rule="idempotency_body")
        if not message.get("more_body", False):
            return found


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already, then whatever else comes."""
    given = False

    async def read() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return read


async def _send(send: Send, answer: Answer, more: list[tuple[bytes, bytes]]) -> None:
    headers = [*answer.headers, *more]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
