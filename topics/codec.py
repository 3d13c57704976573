"""Bodies on the wire: MessagePack maps or JSON objects, with caps, decoded into typed messages.

Two decoders with one error:

- `decode` for what devices send: unknown fields are ignored, missing optional ones take defaults.
- `decode_signed` for signed payloads: MessagePack only, and a duplicate key or a trailing byte refuses,
  because two readers could otherwise see two documents under one signature.

Any bytes at all either decode or raise `DecodeError`.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, TypeVar, cast

import msgpack
import msgspec

from topics.errors import DecodeError

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
MAX_DEPTH: Final = 16
"""Levels of nesting a signed payload may have; the deepest message of ours has four. In other bodies only
fields that nobody reads can be deeper; past the decoder's own limit (about a thousand) they refuse too."""

REASONS: Final = ("empty", "too_large", "not_a_map", "too_deep", "malformed", "invalid", "duplicate_key")
"""Why a body is refused; counted by these words in quarantine and metrics."""

T = TypeVar("T")

_to_msgpack = msgspec.msgpack.Encoder(order="sorted")
_to_json = msgspec.json.Encoder(order="sorted")


@cache
def _decoders(kind: Any) -> tuple[msgspec.msgpack.Decoder[Any], msgspec.json.Decoder[Any]]:
    return msgspec.msgpack.Decoder(kind), msgspec.json.Decoder(kind)


def encode(message: msgspec.Struct, content_type: str = MSGPACK) -> bytes:
    """Return the body for `message`; the same message always gives the same bytes."""
    return _to_json.encode(message) if content_type == JSON else _to_msgpack.encode(message)


def sniff(body: bytes, content_type: str | None = None) -> str:
    """Return the body's format: what Content Type says, else `{` means JSON (no MessagePack map starts so)."""
    if content_type in (JSON, MSGPACK):
        return content_type
    return JSON if body[:1] == b"{" else MSGPACK


def decode(body: bytes, kind: type[T], *, limit: int, content_type: str | None = None) -> T:
    """Return `body` as a `kind`. Raises `DecodeError` with a reason of `REASONS`.

    `limit` is the largest size in bytes.
    """
    check_frame(body, limit=limit, content_type=content_type)
    any_kind: Any = kind
    from_msgpack, from_json = _decoders(any_kind)
    try:
        return cast("T", (from_json if sniff(body, content_type) == JSON else from_msgpack).decode(body))
    except msgspec.ValidationError as error:
        raise DecodeError("invalid", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError("malformed", str(error)) from None
    except RecursionError:
        raise DecodeError("too_deep", "nested beyond what the decoder follows") from None


def check_frame(body: bytes, *, limit: int, content_type: str | None = None) -> None:
    """Refuse by size and first byte, before any parsing."""
    if not body:
        raise DecodeError("empty", "the body has no bytes")
    if len(body) > limit:
        raise DecodeError("too_large", f"{len(body)} bytes, the limit is {limit}")
    first = body[0]
    if sniff(body, content_type) == JSON:
        if first != 0x7B:
            raise DecodeError("not_a_map", "a JSON body must be an object")
    elif not (0x80 <= first <= 0x8F or first in (0xDE, 0xDF)):
        raise DecodeError("not_a_map", "a MessagePack body must be a map")


def decode_signed(payload: bytes, kind: type[T], *, limit: int) -> T:
    """Return a signed `payload` as a `kind`, refusing duplicate keys, trailing bytes and deep nesting."""
    check_frame(payload, limit=limit, content_type=MSGPACK)
    tree = strict_map(payload)
    _check_depth(tree, MAX_DEPTH)
    try:
        # Bytes are bytes: base64 text in their place would be another document to another reader.
        return msgspec.convert(tree, kind, builtin_types=(bytes,))
    except (msgspec.ValidationError, UnicodeDecodeError, OverflowError) as error:
        raise DecodeError("invalid", str(error)) from None


def strict_map(payload: bytes) -> dict[str, Any]:
    """Return the one MessagePack map that `payload` is, whole, with text keys that each stand once."""
    try:
        tree = msgpack.unpackb(
            payload, object_pairs_hook=_unique, strict_map_key=True, raw=False, use_list=True, timestamp=0
        )
    except DecodeError:
        raise
    except (msgpack.StackError, RecursionError):
        raise DecodeError("too_deep", f"more than {MAX_DEPTH} levels of nesting") from None
    except (ValueError, msgpack.UnpackException, TypeError, OverflowError) as error:
        raise DecodeError("malformed", f"{type(error).__name__}: {error}") from None
    if not isinstance(tree, dict):
        raise DecodeError("not_a_map", "a signed payload must be a map")
    return tree


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise DecodeError("duplicate_key", "a key stands twice in a signed map")
    return tree


def _check_depth(tree: Any, left: int) -> None:
    if left < 0:
        raise DecodeError("too_deep", f"more than {MAX_DEPTH} levels of nesting")
    if isinstance(tree, dict):
        for value in tree.values():
            _check_depth(value, left - 1)
    elif isinstance(tree, list):
        for value in tree:
            _check_depth(value, left - 1)
