"""Short-lived tokens by which a device speaks HTTP: an EdDSA JWT (RFC 7519, RFC 8037) by the device's own key.

Written out here, since a JWT library would bring `cryptography` onto the device for forty lines.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from topics.errors import DecodeError
from topics.fields import DeviceId, Name, Seconds

LIFETIME: Final = 300
"""Longest life of a token in seconds."""
LEEWAY: Final = 60
"""Seconds by which the clocks may differ; a device corrects its clock from the answer's Date."""
LIMIT: Final = 2048
_HEADER: Final = b'{"alg":"EdDSA","typ":"JWT"}'


class Claims(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who calls (`sub`), whom (`aud`: `flaghoist:<fleet>`), when and until when (s), and a unique id.

    `body` is the SHA-256 of the request's body, lower-case hex: who reads the token along can send that body again
    and no other. "" in tokens of reading requests, and of agents that do not know of it.
    """

    sub: DeviceId
    aud: Name
    iat: Seconds
    exp: Seconds
    jti: Annotated[str, Meta(pattern=r"^[!-~]{1,64}\Z")]
    body: Annotated[str, Meta(pattern=r"^(?:[0-9a-f]{64})?\Z")] = ""


def audience(fleet: str) -> str:
    """Return the audience that a hub of `fleet` accepts."""
    return f"flaghoist:{fleet}"


def digest(body: bytes) -> str:
    """Return what the token of a request with `body` says of it."""
    return hashlib.sha256(body).hexdigest()


def make(key: SigningKey, claims: Claims) -> str:
    """Return the token for `claims`, signed by the device's key."""
    signed = _encode(_HEADER) + b"." + _encode(msgspec.json.encode(claims))
    return (signed + b"." + _encode(key.sign(signed).signature)).decode()


def subject(token: str) -> str:
    """Return whom the token claims to be of, unverified: only to look up the key. Raises `DecodeError`."""
    return _claims(token)[0].sub


def claims(token: str) -> Claims:
    """Return what a token claims, unverified: only of one that was verified. Raises `DecodeError`."""
    return _claims(token)[0]


def verify(token: str, public_key: bytes, fleet: str, now: int) -> Claims:
    """Return the claims of a token by `public_key` that is valid at `now` (s); raises `DecodeError`."""
    claims, signed, signature = _claims(token)
    try:
        VerifyKey(public_key).verify(signed, signature)
    except (BadSignatureError, ValueError):
        raise DecodeError("invalid", "the token is not signed by this device's key") from None
    if claims.aud != audience(fleet):
        raise DecodeError("invalid", "the token is for another fleet")
    if claims.exp - claims.iat > LIFETIME or not claims.iat - LEEWAY <= now < claims.exp + LEEWAY:
        raise DecodeError("invalid", "the token is not valid at this time; check the device's clock")
    return claims


def _claims(token: str) -> tuple[Claims, bytes, bytes]:
    try:
        raw = token.encode("ascii")
        if len(raw) > LIMIT or raw.count(b".") != 2:
            raise DecodeError("invalid", "this is not a device token")
        header, body, signature = raw.split(b".")
        # The one header that is accepted is compared, not parsed: no other algorithm can be asked for.
        if _decode(header) != _HEADER:
            raise DecodeError("invalid", "the token's algorithm is not EdDSA")
        claims = msgspec.json.decode(_decode(body), type=Claims)
        return claims, header + b"." + body, _decode(signature)
    # RecursionError: 2 KB hold enough brackets to exhaust the parser's stack, and anybody may send them.
    except (ValueError, RecursionError, binascii.Error, msgspec.MsgspecError):
        raise DecodeError("invalid", "this is not a device token") from None


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(data: bytes) -> bytes:
    return base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)
