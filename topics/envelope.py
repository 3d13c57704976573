"""DSSE envelopes over MessagePack, signed with Ed25519.

An envelope is a map of `payload` (bytes), `payloadType` (text) and `signatures` (list of `keyid`, `sig`).
What is signed is the pre-authentication encoding of type and payload, so a payload of one kind can never
pass as another kind. The payload is verified before anybody parses it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from topics import codec
from topics.errors import DecodeError, TrustError
from topics.fields import KeyId, Name, Signature

MAX_SIGNATURES: Final = 16
KINDS: Final = ("root", "release", "manifest", "desired", "config", "credentials", "checkpoint")
"""Kinds of signed documents; anything else is refused as `unknown_type`."""


def payload_type(kind: str) -> str:
    """Return the DSSE payload type of a document of `kind`."""
    return f"application/vnd.flaghoist.{kind}+msgpack;v=1"


class EnvelopeSignature(msgspec.Struct, frozen=True):
    """One signature and the id of the key that made it."""

    keyid: KeyId
    sig: Signature


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signed document as it travels. Nothing in it is to be believed before `verify`."""

    payload: Annotated[bytes, msgspec.Meta(max_length=64 * 1024)]
    payloadType: Name  # noqa: N815  (DSSE's spelling)
    signatures: Annotated[list[EnvelopeSignature], msgspec.Meta(max_length=MAX_SIGNATURES)]


def pae(type_: str, payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding.

    >>> pae("t", b"hello")
    b'DSSEv1 1 t 5 hello'
    """
    name = type_.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(payload), payload)


def key_id(public_key: bytes) -> str:
    """Return the id of an Ed25519 public key: the first 128 bits of its SHA-256, in hex."""
    return hashlib.sha256(public_key).hexdigest()[:32]


def sign(payload: bytes, kind: str, keys: Iterable[SigningKey]) -> bytes:
    """Return `payload` of `kind` in an envelope signed by each of `keys`."""
    type_ = payload_type(kind)
    message = pae(type_, payload)
    signatures = [
        EnvelopeSignature(key_id(bytes(key.verify_key)), key.sign(message).signature) for key in keys
    ]
    return codec.encode(Envelope(payload, type_, signatures))


def add_signature(data: bytes, key: SigningKey, *, limit: int) -> bytes:
    """Return the envelope `data` with the signature of `key` in it, replacing an earlier one by that key."""
    envelope = open_envelope(data, limit=limit)
    keyid = key_id(bytes(key.verify_key))
    signature = key.sign(pae(envelope.payloadType, envelope.payload)).signature
    others = [entry for entry in envelope.signatures if entry.keyid != keyid]
    if len(others) >= MAX_SIGNATURES:
        raise TrustError("malformed", f"the envelope already carries {MAX_SIGNATURES} signatures")
    return codec.encode(
        Envelope(envelope.payload, envelope.payloadType, [*others, EnvelopeSignature(keyid, signature)])
    )


def open_envelope(data: bytes, *, limit: int) -> Envelope:
    """Return the envelope without believing it. Raises `TrustError` (`too_large`, `malformed`)."""
    if len(data) > limit:
        raise TrustError("too_large", f"{len(data)} bytes, the limit is {limit}")
    try:
        return codec.decode_signed(data, Envelope, limit=limit)
    except DecodeError as error:
        raise TrustError("malformed", f"envelope: {error}") from None


def verify(envelope: Envelope, kind: str, keys: Mapping[str, bytes], threshold: int, *, signer: str) -> bytes:
    """Return the payload once at least `threshold` distinct `keys` have signed it as a `kind`.

    `keys` maps key ids to public keys; `signer` names the trust role in the refusal. A key counts once
    however often it signed. Raises `TrustError` (`unknown_type`, `<signer>_threshold`).
    """
    expected = payload_type(kind)
    if envelope.payloadType != expected:
        raise TrustError("unknown_type", f"payload type {envelope.payloadType!r}, expected {expected!r}")
    if threshold < 1:
        raise TrustError(f"{signer}_threshold", "a threshold below one would trust anybody")
    message = pae(envelope.payloadType, envelope.payload)
    good: set[bytes] = set()
    for entry in envelope.signatures:
        public_key = keys.get(entry.keyid)
        # The id is recomputed: a root that lists one key under two ids must not count it twice.
        if (
            public_key is not None
            and public_key not in good
            and _is_signature(public_key, message, entry.sig)
        ):
            good.add(public_key)
    if len(good) < threshold:
        raise TrustError(
            f"{signer}_threshold", f"{len(good)} of {threshold} needed signatures by known {signer} keys"
        )
    return envelope.payload


def _is_signature(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        VerifyKey(public_key).verify(message, signature)
    # PyNaCl raises ValueError for wrong lengths; both mean "not a signature by this key".
    except (BadSignatureError, ValueError):
        return False
    return True
