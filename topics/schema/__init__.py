"""The schema registry: every message and document kind, its version, and its JSON Schema."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from topics.documents import Config, Desired, Manifest, Release, Root
from topics.messages import UPLINK_TYPES, Receipt

KINDS: Final[dict[str, tuple[int, type[msgspec.Struct]]]] = {
    **{name: (1, kind) for name, kind in UPLINK_TYPES.items()},
    "receipt": (1, Receipt),
    "root": (1, Root),
    "release": (1, Release),
    "manifest": (1, Manifest),
    "desired": (1, Desired),
    "config": (1, Config),
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


def _portable(node: Any) -> Any:
    """Python ends a pattern with `\\Z`; JSON Schema's regular expressions (ECMA 262) know only `$` for it."""
    if isinstance(node, dict):
        return {
            key: value.replace(r"\Z", "$")
            if key == "pattern" and isinstance(value, str)
            else _portable(value)
            for key, value in node.items()
        }
    return [_portable(item) for item in node] if isinstance(node, list) else node
