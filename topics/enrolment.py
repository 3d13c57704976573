"""First contact between a device and a hub, without blind trust on either side.

A token carries a secret and the hashes of root v1 and of the hub's CA, so the device knows whom to believe.
The secret never travels: the device proves it knows it by a MAC keyed with the secret's hash (what the hub
keeps), and proves possession of its own key by a signature. Both cover the hub's nonce.

    device → hub   RegisterRequest without nonce
    hub → device   RegisterChallenge with a nonce (valid for a minute)
    device → hub   RegisterRequest with nonce, proof and mac
    hub → device   RegisterAnswer
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Annotated

import msgspec
from msgspec import Meta
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from topics import codec
from topics.errors import DecodeError
from topics.fields import DeviceId, LongText, Name, PublicKey, Sha256, Signature, Text

Envelope = Annotated[bytes, Meta(max_length=16 * 1024)]
TOKEN_PREFIX = "fh1."  # noqa: S105  (a format mark, not a secret)


class Token(msgspec.Struct, frozen=True):
    """An enrolment token: its secret, and the SHA-256 of root v1 (envelope bytes) and of the CA (DER)."""

    secret: Annotated[bytes, Meta(min_length=32, max_length=32)]
    root_sha256: Sha256
    ca_sha256: Sha256

    @property
    def secret_hash(self) -> bytes:
        """What the hub keeps of the secret."""
        return hashlib.sha256(self.secret).digest()

    @property
    def id(self) -> str:
        """Public name of the token: the first half of the hash of the secret's hash."""
        return token_id(self.secret_hash)

    def text(self) -> str:
        """The token as people copy it."""
        raw = codec.encode(self)
        return TOKEN_PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("=")


def token_id(secret_hash: bytes) -> str:
    """Return the public name of the token whose secret hashes to `secret_hash`."""
    return hashlib.sha256(secret_hash).hexdigest()[:32]


def parse_token(text: str) -> Token:
    """Return the token that people copied. Raises `DecodeError` with a sentence that says what to do."""
    encoded = text.strip().removeprefix(TOKEN_PREFIX)
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        return codec.decode_signed(raw, Token, limit=1024)
    except (ValueError, binascii.Error, DecodeError):
        raise DecodeError(
            "invalid", "this is not an enrolment token; copy all of it, from fh1. to its end"
        ) from None


class RegisterRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a device sends, first without `nonce`, `proof` and `mac`, then with them."""

    token_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    device_id: DeviceId
    public_key: PublicKey
    nonce: Annotated[bytes, Meta(max_length=64)] = b""
    proof: Signature | None = None
    mac: Annotated[bytes, Meta(max_length=32)] = b""
    hardware: Name = ""
    serial: Name = ""
    agent_version: Name = "0"


class RegisterChallenge(msgspec.Struct, frozen=True):
    """The hub's nonce, to be covered by proof and MAC."""

    nonce: Annotated[bytes, Meta(max_length=64)]


class RegisterAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All a device needs: the roots from v1 on, the CA, its certificate, and the signed config and desired state."""

    roots: Annotated[list[Envelope], Meta(min_length=1, max_length=256)]
    ca_pem: LongText
    certificate_pem: LongText
    config: Envelope
    desired: Envelope
    detail: Text = ""


def challenge_text(secret_hash: bytes, device_id: str, public_key: bytes, nonce: bytes) -> bytes:
    """Return the bytes that proof and MAC cover. Lengths are fixed or delimited, so no two requests collide."""
    return b"\0".join([b"flaghoist-register-v1", secret_hash, device_id.encode(), public_key, nonce])


def prove(token: Token, key: SigningKey, device_id: str, nonce: bytes) -> tuple[bytes, bytes]:
    """Return (proof, mac) of a device that knows `token` and holds `key`."""
    text = challenge_text(token.secret_hash, device_id, bytes(key.verify_key), nonce)
    return key.sign(text).signature, hmac.digest(token.secret_hash, text, "sha256")


def is_proven(secret_hash: bytes, request: RegisterRequest) -> bool:
    """Whether `request` proves knowledge of the token's secret and possession of its public key."""
    text = challenge_text(secret_hash, request.device_id, request.public_key, request.nonce)
    if not hmac.compare_digest(hmac.digest(secret_hash, text, "sha256"), request.mac):
        return False
    try:
        VerifyKey(request.public_key).verify(text, request.proof or b"")
    except (BadSignatureError, ValueError):
        return False
    return True
