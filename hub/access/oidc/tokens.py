"""Whether a token of the provider is good. Pure: keys and time are arguments.

A token is refused, each with its own rule, unless

- it is a signed JWT of at most `LIMIT` bytes (`oidc_format`),
- by one of `ALGORITHMS`, none of which is symmetric: a public key is no secret to check a MAC by (`oidc_algorithm`),
- with a key of the provider's set that is for signatures and for that algorithm (`oidc_key`); whatever key, or address
  of one, the token itself brings is not looked at,
- whose signature it is (`oidc_signature`),
- and it is an ID token or an access token, not one that orders a log-out or tells of an event (`oidc_kind`),
- from this issuer, to the letter (`oidc_issuer`),
- for this hub, and, where it is for others as well, asked for by this hub (`oidc_audience`),
- valid now, but for `LEEWAY_S` (`oidc_expired`, `oidc_not_yet`),
- and names somebody (`oidc_subject`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from hub.errors import Unauthorised

LIMIT: Final = 16_384
"""Bytes of a token. One with two hundred groups in it has about 10,000."""
LEEWAY_S: Final = 60
"""Seconds by which the provider's clock and the hub's may differ."""
LONGEST_SUBJECT: Final = 255
"""Characters of a subject, as OpenID Connect Core 2 says."""
LEAST_RSA_BITS: Final = 2048
"""RFC 7518, 3.3."""
KINDS: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt", "id_token+jwt"})
"""Values of the header `typ`, in lower case: RFC 9068 has the access token's; ID tokens mostly say JWT or nothing."""
_LAST_S: Final = 253_402_300_799
_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", *_CURVES, "EdDSA", "Ed25519")


class UnknownKey(Unauthorised):
    """The token's key is none of those that are known; the provider may have a newer set."""


class _Registry(JWSRegistry):
    max_header_length = 4096  # some providers send their certificate along


class Expected(msgspec.Struct, frozen=True):
    """Whose tokens are taken: the issuer, this hub's client id, and further audiences of access tokens."""

    issuer: str
    client_id: str
    audiences: tuple[str, ...] = ()


class SigningKey(msgspec.Struct, frozen=True):
    """A key of the provider, under the id that its set gives it (None for none), for one algorithm if it says so."""

    kid: str | None
    algorithm: str | None
    key: Key

    def suits(self, algorithm: str) -> bool:
        """Whether a signature by `algorithm` can be of this key."""
        if self.algorithm not in (None, algorithm):
            return False
        if isinstance(self.key, RSAKey):
            return algorithm.startswith(("RS", "PS"))
        if isinstance(self.key, ECKey):
            return self.key.curve_name == _CURVES.get(algorithm)
        return algorithm in ("EdDSA", "Ed25519")


def signing_keys(jwks: Mapping[str, Any]) -> list[SigningKey]:
    """Return the keys of a JWK set that signatures are checked by; what is of another kind or cannot be read is not."""
    entries = jwks.get("keys")
    found = [_signing_key(entry) for entry in entries] if isinstance(entries, list) else []
    return [key for key in found if key is not None]


def _signing_key(entry: Any) -> SigningKey | None:
    if not isinstance(entry, dict) or entry.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    try:
        if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
            return None
        key = JWKRegistry.import_key(entry)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, RSAKey) and key.public_key.key_size < LEAST_RSA_BITS:
        return None
    if isinstance(key, OKPKey) and key.curve_name != "Ed25519":
        return None
    kid, algorithm = entry.get("kid"), entry.get("alg")
    return SigningKey(
        kid if isinstance(kid, str) else None, algorithm if isinstance(algorithm, str) else None, key
    )


def issuer_of(token: str) -> str | None:
    """Return whom a token claims to be issued by, unverified: only to tell whose it is to check."""
    try:
        claims = msgspec.json.decode(_decoded(token.split(".")[1]), type=dict[str, Any])
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None
    issuer = claims.get("iss")
    return issuer if isinstance(issuer, str) else None


def verify(token: str, keys: Sequence[SigningKey], expected: Expected, now: int) -> dict[str, Any]:
    """Return the claims of a token that is good at `now` (s).

    Raises `Unauthorised`, and of those `UnknownKey` where newer keys may help.
    """
    header = _header(token)
    key = _chosen(header, keys)
    try:
        registry = _Registry(algorithms=[header["alg"]], strict_check_header=False)
        claims = dict(jwt.decode(token, key.key, registry=registry).claims)
    except BadSignatureError:
        raise Unauthorised("The token's signature is not its issuer's.", rule="oidc_signature") from None
    except (JoseError, ValueError, RecursionError):
        raise Unauthorised("This is not a token that can be read.", rule="oidc_format") from None
    if "events" in claims:
        raise _kind()
    _check(claims, expected, now)
    return claims


def _header(token: str) -> dict[str, Any]:
    try:
        if len(token) > LIMIT or token.count(".") != 2:
            raise ValueError
        header = msgspec.json.decode(_decoded(token.partition(".")[0]), type=dict[str, Any])
    except (ValueError, RecursionError, msgspec.MsgspecError):
        raise Unauthorised("This is not a token that can be read.", rule="oidc_format") from None
    if header.get("alg") not in ALGORITHMS:
        raise Unauthorised("The token's algorithm is none that is accepted.", rule="oidc_algorithm")
    if str(header.get("typ", "")).lower() not in KINDS:
        raise _kind()
    return header


def _chosen(header: Mapping[str, Any], keys: Sequence[SigningKey]) -> SigningKey:
    kid = header.get("kid")
    suited = [key for key in keys if key.suits(header["alg"]) and kid in (None, key.kid)]
    # Without an id there must be no choice: to try one after another would let the token choose.
    if not suited or (kid is None and len(suited) > 1):
        raise UnknownKey("The token is signed by a key that its issuer does not name.", rule="oidc_key")
    return suited[0]


def _check(claims: Mapping[str, Any], expected: Expected, now: int) -> None:
    if claims.get("iss") != expected.issuer:
        raise Unauthorised(f"The token is not from {expected.issuer}.", rule="oidc_issuer")
    _check_audience(claims, expected)
    expires, begins = _time(claims.get("exp")), [_time(claims.get(name, 0)) for name in ("nbf", "iat")]
    if now >= expires + LEEWAY_S:
        raise Unauthorised("The token has expired; log in again.", rule="oidc_expired")
    if now < max(begins) - LEEWAY_S:
        raise Unauthorised("The token is not valid yet; compare the clocks.", rule="oidc_not_yet")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT or not subject.isprintable():
        raise Unauthorised("The token names nobody.", rule="oidc_subject")


def _check_audience(claims: Mapping[str, Any], expected: Expected) -> None:
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    texts = {name for name in named if isinstance(name, str)}
    ours = {expected.client_id, *expected.audiences}
    if not texts & ours:
        raise Unauthorised("The token is not for this hub.", rule="oidc_audience")
    if texts <= ours:
        return
    # An access token for one of our own audiences says so itself; a token for our client id must be one we asked for.
    if not texts.intersection(expected.audiences) and claims.get("azp") != expected.client_id:
        raise Unauthorised("The token was asked for by somebody else.", rule="oidc_audience")


def _time(value: Any) -> float:
    # A bool is an int, and no comparison with NaN is true.
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LAST_S:
        return value
    raise Unauthorised("The token does not say from when until when it is valid.", rule="oidc_format")


def _kind() -> Unauthorised:
    return Unauthorised("The token is neither an ID token nor an access token.", rule="oidc_kind")


def _decoded(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError from error
