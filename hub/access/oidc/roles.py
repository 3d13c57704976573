"""Which role a person has, and what they are called, by what their provider says of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from hub.caller import RANKS

LONGEST_NAME: Final = 128
"""Characters of a display name."""
_NAMES: Final = ("name", "preferred_username", "email")


class Person(msgspec.Struct, frozen=True):
    """Somebody at a provider. The issuer and the subject there say who; `name` is what they are called at present."""

    issuer: str
    subject: str
    name: str

    @property
    def actor(self) -> str:
        """What the audit has. An issuer has no fragment, so two people never have one name."""
        return f"oidc:{self.issuer}#{self.subject}"


def person_of(claims: Mapping[str, Any]) -> Person:
    """Return whom the claims of a good token tell of."""
    texts = (claims.get(name) for name in _NAMES)
    named = next((text for text in texts if isinstance(text, str) and text.strip()), claims["sub"])
    # What is no letter, digit or sign might turn a line of a log or a page around.
    clean = "".join(sign if sign.isprintable() else " " for sign in named)
    return Person(claims["iss"], claims["sub"], " ".join(clean.split())[:LONGEST_NAME])


def role_of(claims: Mapping[str, Any], path: str, roles: Mapping[str, str]) -> str | None:
    """Return the highest role that the claim at `path` gives, None for none.

    `roles` says which value gives which role. The claim is a text or a list of texts.
    """
    value = claim_at(claims, path)
    texts = value if isinstance(value, list) else [value]
    found = [roles[text] for text in texts if isinstance(text, str) and text in roles]
    return max(found, key=RANKS.__getitem__, default=None)


def claim_at(claims: Mapping[str, Any], path: str) -> Any:
    """Return the claim of that name, else what the dots lead to, else None.

    >>> claim_at({"realm_access": {"roles": ["admin"]}}, "realm_access.roles")
    ['admin']
    >>> claim_at({"https://shop.example/roles": "admin"}, "https://shop.example/roles")
    'admin'
    """
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
