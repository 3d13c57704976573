"""A login that a browser has begun: the browser itself keeps it, sealed, so that beginning one costs nothing. Pure."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Final

import msgspec
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from hub.errors import Unauthorised

LIFE_S: Final = 600
"""Seconds from the beginning of a login to its end; a second factor takes a while."""


class Pending(msgspec.Struct, frozen=True):
    """What only this browser's login has: `state` comes back beside the code, `nonce` in the ID token, and the
    `verifier` is shown to the provider with the code. `back_to` is a path of the hub's; `expires_at` is in s."""

    state: str
    nonce: str
    verifier: str
    back_to: str
    expires_at: int


def begin(back_to: str, now: int, token: Callable[[int], str]) -> Pending:
    """Return a new login at `now` (s). `token` gives URL-safe text of so many random bytes."""
    return Pending(token(32), token(32), token(32), back_to, now + LIFE_S)


def seal(pending: Pending, secret: bytes) -> str:
    """Return the value of the cookie that holds it."""
    sealed = SecretBox(secret).encrypt(msgspec.msgpack.encode(pending))
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def unseal(text: str | None, secret: bytes, now: int) -> Pending:
    """Return the login of a browser's cookie at `now` (s). Raises `Unauthorised` without one, and for one too old."""
    try:
        sealed = base64.urlsafe_b64decode((text or "").encode() + b"==")
        found = msgspec.msgpack.decode(SecretBox(secret).decrypt(sealed), type=Pending)
    except (ValueError, CryptoError, msgspec.MsgspecError):
        raise Unauthorised("This browser has not begun to log in; begin again.", rule="login_state") from None
    if now >= found.expires_at:
        raise Unauthorised("Logging in took too long; begin again.", rule="login_expired")
    return found
