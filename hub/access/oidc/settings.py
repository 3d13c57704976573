"""Which provider people log in at, checked as the hub starts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from hub.caller import RANKS
from hub.errors import SetupError
from hub.identity.files import read_private

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Oidc(msgspec.Struct, frozen=True, kw_only=True):
    """The provider and this hub's registration there. `audience` is that of access tokens, "" for none but the client
    id; `role_claim` and `roles` are those of `hub.access.oidc.roles.role_of`."""

    issuer: str
    client_id: str
    client_secret: str = ""
    audience: str = ""
    scopes: str
    role_claim: str
    roles: Mapping[str, str]

    @property
    def digest(self) -> str:
        """What changes with anything that decides who has which role."""
        decides = (self.issuer, self.client_id, self.role_claim, sorted(self.roles.items()))
        return hashlib.sha256(msgspec.json.encode(decides)).hexdigest()


def is_safe(url: str) -> bool:
    """Whether nobody can read along on the way to `url`: https, or this machine itself."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK))


def check_issuer(url: str, public_http: str) -> str:
    """Return the issuer's URL, or "" for none; raises `SetupError`.

    `public_http` is where browsers find the hub, "" on this machine itself: sessions must not be read along either.
    """
    if not url:
        return ""
    if not is_safe(url) or "?" in url or "#" in url or not url.isprintable() or " " in url:
        raise SetupError(
            f"{url!r} is not the URL of an issuer; write https://HOST as the provider spells it."
        )
    if public_http and not is_safe(public_http):
        raise SetupError(
            "Logging in needs https: put a TLS proxy before the hub and name it with --public-http https://HOST."
        )
    return url


def parse_roles(text: str) -> dict[str, str]:
    """Return `VALUE=ROLE,VALUE=ROLE` as a mapping; raises `SetupError`."""
    found = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        value, equals, role = pair.rpartition("=")
        if not equals or not value or role not in RANKS:
            raise SetupError(
                f"{pair!r} maps no value to a role; write VALUE=ROLE with one of {', '.join(RANKS)}."
            )
        found[value] = role
    return found


def read_secret(path: str) -> str:
    """Return the client's secret from a file that only its owner reads, "" without a file; raises `SetupError`."""
    if not path:
        return ""
    try:
        secret = read_private(Path(path)).decode().strip()
    except UnicodeDecodeError:
        secret = ""
    if not secret or not secret.isprintable():
        raise SetupError(f"{path} holds no client secret; write the provider's into it, on one line.")
    return secret
