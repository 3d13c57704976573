"""Bounded field types. Every field of every message has a bound, since msgspec alone takes integers
beyond 64 bits, NaN and NUL in text, each of which breaks a store further on."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from topics.names import DEVICE_ID_PATTERN, FLEET_PATTERN, RELEASE_ID_PATTERN, ROLE_PATTERN

_I64_MAX: Final = 2**63 - 1
_NO_NUL: Final = r"^[^\x00]*\Z"

Integer = Annotated[int, Meta(ge=-_I64_MAX - 1, le=_I64_MAX)]
Count = Annotated[int, Meta(ge=0, le=_I64_MAX)]
Millis = Annotated[int, Meta(ge=0, le=253_402_300_799_999, description="milliseconds since the Unix epoch")]
Seconds = Annotated[int, Meta(ge=0, le=253_402_300_799, description="seconds since the Unix epoch")]
Duration = Annotated[int, Meta(ge=0, le=10 * 365 * 86_400, description="seconds")]
Number = Annotated[float, Meta(ge=-1e15, le=1e15)]
BasisPoints = Annotated[int, Meta(ge=0, le=10_000, description="hundredths of a percent")]
Name = Annotated[str, Meta(max_length=128, pattern=_NO_NUL)]
Text = Annotated[str, Meta(max_length=1024, pattern=_NO_NUL)]
LongText = Annotated[str, Meta(max_length=16_384, pattern=_NO_NUL)]
Fleet = Annotated[str, Meta(pattern=FLEET_PATTERN)]
DeviceId = Annotated[str, Meta(pattern=DEVICE_ID_PATTERN)]
Role = Annotated[str, Meta(pattern=ROLE_PATTERN)]
ReleaseId = Annotated[str, Meta(pattern=RELEASE_ID_PATTERN)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", description="SHA-256, lower-case hex")]
Commit = Annotated[str, Meta(pattern=r"^[0-9a-f]{40}(?:[0-9a-f]{24})?\Z", description="git object id")]
KeyId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z", description="first 128 bits of SHA-256 of the key")]
PublicKey = Annotated[bytes, Meta(min_length=32, max_length=32, description="Ed25519 public key")]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64, description="Ed25519 signature")]
SpoolId = Annotated[str, Meta(pattern=r"^[0-9a-f]{8,32}\Z")]
