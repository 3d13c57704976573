"""An OpenID provider that answers from memory: what it is asked over HTTP it is asked here by the same calls."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

ISSUER: Final = "https://id.example/realms/shop"
CLIENT: Final = "flaghoist"
AUDIENCE: Final = "https://hub.example/api"
SUBJECT: Final = "248289761001"
RSA: Final = RSAKey.generate_key(2048, {"kid": "rsa-1"})
EC: Final = ECKey.generate_key("P-256", {"kid": "ec-1"})
ED: Final = OKPKey.generate_key("Ed25519", {"kid": "ed-1"})
STRANGER: Final = ECKey.generate_key("P-256", {"kid": "ec-1"})
"""Has the id of `EC`, and is another."""


def jwks(*keys: Key, **more: Any) -> dict[str, Any]:
    """The set of the public halves."""
    return {"keys": [{**key.as_dict(private=False), **more} for key in keys]}


def claims(now: int, **changes: Any) -> dict[str, Any]:
    """What a good ID token says at `now` (s). A change to None leaves the claim out."""
    found = {
        "iss": ISSUER,
        "aud": CLIENT,
        "sub": SUBJECT,
        "iat": now,
        "exp": now + 300,
        "name": "Ada Lovelace",
        "groups": ["staff", "fleet-operators"],
    }
    return {name: value for name, value in {**found, **changes}.items() if value is not None}


def signed(body: dict[str, Any], key: Key = EC, algorithm: str = "ES256", **header: Any) -> str:
    """A token over `body`, put together by hand: the library makes none that it would not read."""
    whole = {"alg": algorithm, "kid": key.kid, **header}
    head = part({name: value for name, value in whole.items() if value is not None})
    said = f"{head}.{part(body)}"
    signature = JWSRegistry.algorithms[algorithm].sign(said.encode(), key)
    return f"{said}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def part(value: Any) -> str:
    """One part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
