"""Whether two versions of a message can live in one fleet: agents and hubs are never updated at once.

`breaking` compares the JSON Schemas of one kind and names every change by which either an older side stops
reading a newer one (`older reader`) or a newer side stops reading an older one (`older sender`). Rules:

 1. A required field added: older senders do not send it. Removed, or made optional: older readers need it.
 2. An optional field may come and go, unless the older reader forbids unknown fields. Its default may not
    change: a sender leaves defaults out, so the two sides would read two values in one message.
 3. A type, an alternative or a value of an enumeration removed: older senders may still send it. Added: older
    readers refuse it.
 4. A bound tightened: older senders may exceed it. Loosened: older readers refuse what now may come.
 5. A pattern changed: nobody can tell by comparing, so it counts against both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

Schema = dict[str, Any]

_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_SENDER: Final = "older sender"
_READER: Final = "older reader"


def breaking(old: Schema, new: Schema) -> list[str]:
    """Return a sentence for every breaking change from `old` to `new`; empty when they can live together."""
    return list(_Comparison(old, new).node("$", old, new))


class _Comparison:
    """One walk through two schemas; `seen` ends it where a type contains itself."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self.old_defs: Schema = old.get("$defs", {})
        self.new_defs: Schema = new.get("$defs", {})
        self.seen: set[tuple[str, str]] = set()

    def node(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        refs = (str(old.get("$ref", "")), str(new.get("$ref", "")))
        if all(refs) and refs in self.seen:
            return
        self.seen.add(refs)
        old, new = _resolve(old, self.old_defs), _resolve(new, self.new_defs)
        if "anyOf" in old or "anyOf" in new:
            yield from self._alternatives(path, old, new)
            return
        if _shape(old) != _shape(new):
            yield f"{path}: {_shape(old)} became {_shape(new)} ({_SENDER}, {_READER})"
            return
        yield from _values(path, old, new)
        yield from _bounds(path, old, new)
        if old.get("pattern") != new.get("pattern"):
            yield f"{path}: the pattern changed ({_SENDER}, {_READER})"
        yield from self._fields(path, old, new)
        yield from self._elements(path, old, new)

    def _alternatives(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        before, after = self._by_shape(old, self.old_defs), self._by_shape(new, self.new_defs)
        for shape in sorted(before.keys() - after.keys()):
            yield f"{path}: {shape} is no longer taken ({_SENDER})"
        for shape in sorted(after.keys() - before.keys()):
            yield f"{path}: {shape} is new ({_READER})"
        for shape in sorted(before.keys() & after.keys()):
            yield from self.node(path, before[shape], after[shape])

    def _by_shape(self, node: Schema, defs: Schema) -> dict[str, Schema]:
        return {_shape(_resolve(option, defs)): option for option in node.get("anyOf", [node])}

    def _fields(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        needed_before, needed_after = set(old.get("required", ())), set(new.get("required", ()))
        for name in sorted(needed_after - needed_before):
            yield f"{path}.{name}: is now required ({_SENDER})"
        for name in sorted(needed_before - needed_after):
            yield f"{path}.{name}: is no longer always sent ({_READER})"
        if old.get("additionalProperties") is False:
            for name in sorted(after.keys() - before.keys()):
                yield f"{path}.{name}: is new where unknown fields are refused ({_READER})"
        if new.get("additionalProperties") is False:
            for name in sorted(before.keys() - after.keys()):
                yield f"{path}.{name}: is gone where unknown fields are refused ({_SENDER})"
        for name in sorted(before.keys() & after.keys()):
            if name not in needed_before | needed_after and _default(before[name]) != _default(after[name]):
                yield f"{path}.{name}: the default changed ({_SENDER}, {_READER})"
            yield from self.node(f"{path}.{name}", before[name], after[name])

    def _elements(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        for key in ("items", "additionalProperties", "propertyNames"):
            before, after = old.get(key), new.get(key)
            if isinstance(before, dict) and isinstance(after, dict):
                yield from self.node(f"{path}[{key}]", before, after)
        for index, pair in enumerate(
            zip(old.get("prefixItems", ()), new.get("prefixItems", ()), strict=False)
        ):
            yield from self.node(f"{path}[{index}]", *pair)


def _resolve(node: Schema, defs: Schema) -> Schema:
    ref = node.get("$ref")
    return node if ref is None else defs[ref.removeprefix("#/$defs/")]


def _shape(node: Schema) -> str:
    if "enum" in node:
        return "enumeration"
    kind = node.get("type", "anything")
    return "bytes" if node.get("contentEncoding") == "base64" else str(kind)


def _default(field: Schema) -> tuple[bool, Any]:
    return ("default" in field, field.get("default"))


def _values(path: str, old: Schema, new: Schema) -> Iterator[str]:
    before, after = old.get("enum", []), new.get("enum", [])
    for value in before:
        if value not in after:
            yield f"{path}: {value!r} is no longer taken ({_SENDER})"
    for value in after:
        if value not in before:
            yield f"{path}: {value!r} is new ({_READER})"


def _bounds(path: str, old: Schema, new: Schema) -> Iterator[str]:
    for keys, sign in ((_LOWER, 1), (_UPPER, -1)):
        for key in keys:
            # Mirrored, an upper bound is a lower one: higher is tighter for both.
            before = sign * old[key] if key in old else -math.inf
            after = sign * new[key] if key in new else -math.inf
            if after > before:
                yield f"{path}: {key} tightened from {old.get(key)} to {new.get(key)} ({_SENDER})"
            elif after < before:
                yield f"{path}: {key} loosened from {old.get(key)} to {new.get(key)} ({_READER})"
