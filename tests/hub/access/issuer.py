"""An OpenID provider that answers from memory: what it is asked over HTTP it is asked here by the same calls."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from hub.access.building import build_gate
from hub.access.gate import Gate
from hub.access.oidc.http import Answer, ProviderAway
from hub.access.oidc.settings import Oidc
from hub.caller import RANKS
from hub.store import Store

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


class Issuer:
    """The provider: publishes `keys`, and gives every code the claims that were put under it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Be as at the beginning."""
        self.keys: list[Key] = [EC, RSA]
        self.signing: Key = EC
        self.asked: list[str] = []
        self.is_away = False
        self.max_age: int | None = None
        self.jwks_answer: Answer | None = None
        self.token_answer: Answer | None = None
        self.metadata: dict[str, Any] = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/auth",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/jwks",
            "end_session_endpoint": f"{ISSUER}/logout",
        }
        self.codes: dict[str, dict[str, Any]] = {}
        self.userinfo: dict[str, Any] = {}
        self.forms: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []

    def token(self, now: int, **changes: Any) -> str:
        """A token of somebody who came in elsewhere."""
        return signed(claims(now, **changes), self.signing)

    def __call__(self, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None) -> Answer:
        """Answer as over HTTP."""
        path = url.removeprefix(ISSUER)
        self.asked.append(path)
        if self.is_away:
            raise ProviderAway(f"{url} cannot be asked")
        if path == "/.well-known/openid-configuration":
            return _json(self.metadata)
        if path == "/jwks":
            return self.jwks_answer or Answer(200, json.dumps(jwks(*self.keys)).encode(), self.max_age)
        if path == "/userinfo":
            return _json(self.userinfo)
        assert path == "/token" and form is not None, url
        self.forms.append(dict(form))
        self.headers.append(dict(headers))
        if self.token_answer is not None:
            return self.token_answer
        found = self.codes.pop(form["code"], None)
        if found is None:
            return _json({"error": "invalid_grant"}, 400)
        return _json({"id_token": signed(found, self.signing), "access_token": "opaque"})


def gate_of(
    store: Store, issuer: Issuer, public_url: str, clock: Callable[[], int], settings: Oidc | None = None
) -> Gate:
    """The gate of a hub whose people log in at `issuer`."""
    settings = settings or Oidc(
        issuer=ISSUER,
        client_id=CLIENT,
        client_secret="s3cret:%",
        audience=AUDIENCE,
        scopes="openid profile",
        role_claim="groups",
        roles={f"fleet-{role}s": role for role in RANKS},
    )
    return build_gate(store, settings, issuer, public_url, (30, 480), clock)


def _json(body: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(body).encode())
