"""Sealing a key's seed with a passphrase: argon2id makes the key, XSalsa20-Poly1305 seals (PyNaCl's SecretBox).

    {"kdf": "argon2id", "ops": 3, "memory": 268435456, "salt": "<hex>", "box": "<hex: nonce and ciphertext>"}

What it costs stands in the file, so it can be raised later, within bounds: a file that was put there must not make a
machine reckon for an hour.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.secret import SecretBox


class Cost(msgspec.Struct, frozen=True):
    """What one guess costs: passes over `memory` bytes."""

    ops: int
    memory: int


MODERATE: Final = Cost(argon2id.OPSLIMIT_MODERATE, argon2id.MEMLIMIT_MODERATE)
"""libsodium's own choice for keys that are used by hand: 256 MiB and about a second on a small machine."""
CHEAPEST: Final = Cost(argon2id.OPSLIMIT_MIN, argon2id.MEMLIMIT_MIN)


class Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sealed seed as the file holds it."""

    salt: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    box: Annotated[str, Meta(pattern=r"^[0-9a-f]{144}\Z")]
    ops: Annotated[int, Meta(ge=argon2id.OPSLIMIT_MIN, le=16)]
    memory: Annotated[int, Meta(ge=argon2id.MEMLIMIT_MIN, le=1024**3, description="bytes")]
    kdf: Literal["argon2id"] = "argon2id"


def seal(seed: bytes, passphrase: str, cost: Cost, random: Callable[[int], bytes]) -> Sealed:
    """Return the sealed 32 bytes of `seed`; `random` returns that many unpredictable bytes."""
    salt = random(argon2id.SALTBYTES)
    box = SecretBox(_key(passphrase, salt, cost.ops, cost.memory)).encrypt(seed, random(SecretBox.NONCE_SIZE))
    return Sealed(salt.hex(), bytes(box).hex(), cost.ops, cost.memory)


def unseal(sealed: Sealed, passphrase: str) -> bytes | None:
    """Return the seed, None when the passphrase is another one or the file was changed."""
    key = _key(passphrase, bytes.fromhex(sealed.salt), sealed.ops, sealed.memory)
    try:
        return bytes(SecretBox(key).decrypt(bytes.fromhex(sealed.box)))
    except CryptoError:
        return None


def _key(passphrase: str, salt: bytes, ops: int, memory: int) -> bytes:
    # The same letters typed on two systems can be other bytes.
    text = unicodedata.normalize("NFC", passphrase).encode()
    return argon2id.kdf(SecretBox.KEY_SIZE, text, salt, opslimit=ops, memlimit=memory)
