"""The schema registry: every message and document kind, its version, and its JSON Schema."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from topics.documents import Config, Credentials, Desired, Manifest, Release, Root, RootChain
from topics.enrolment import RegisterAnswer, RegisterChallenge, RegisterRequest
from topics.messages import UPLINK_TYPES, Receipt
from topics.renewal import CertificateRequest

KINDS: Final[dict[str, tuple[int, type[msgspec.Struct]]]] = {
    **{name: (1, kind) for name, kind in UPLINK_TYPES.items()},
    "receipt": (1, Receipt),
    "root": (1, Root),
    "release": (1, Release),
    "manifest": (1, Manifest),
    "desired": (1, Desired),
    "config": (1, Config),
    "credentials": (1, Credentials),
    "certificate-request": (1, CertificateRequest),
    "trust-root": (1, RootChain),
    "register-request": (1, RegisterRequest),
    "register-challenge": (1, RegisterChallenge),
    "register-answer": (1, RegisterAnswer),
}
"""Current version and type of every kind that crosses the wire."""


def json_schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the current version of `kind`; raises `KeyError` for an unknown one.

    Bytes appear as base64 text, which is how JSON carries them; MessagePack carries them as they are.
    """
    version, type_ = KINDS[kind]
    schema = _portable(msgspec.json.schema(type_))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"flaghoist:{kind}:{version}",
        "title": f"{kind} v{version}",
        **schema,
    }


def _portable(node: Any, key: str = "") -> Any:
    """Return `node` for readers that are not Python: patterns end with `$`, since ECMA 262 knows no `\\Z`."""
    if isinstance(node, dict):
        return {name: _portable(value, name) for name, value in node.items()}
    if isinstance(node, list):
        return [_portable(item) for item in node]
    if key == "pattern" and isinstance(node, str):
        return node.replace(r"\Z", "$")
    if key == "description" and isinstance(node, str):
        return " ".join(node.split())
    return node
