"""A compose file held against the compose specification: its published JSON Schema, then its references. Pure.

The schema comes with check-jsonschema, whose releases follow the specification's. What a variable stands for is not
known here, so a value that holds one is not judged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any, Final

from hub.artifacts.lint.findings import Finding
from hub.artifacts.lint.lines import has_variable
from hub.artifacts.lint.yamldoc import Document, Path

MOST: Final = 100
"""Findings of the schema that are told; a file that has more is another kind of file."""
_UNKNOWN: Final = ("additionalProperties", "unevaluatedProperties")


def check(document: Document, where: str) -> Iterator[Finding]:
    """Yield every place where the document is not what the specification allows."""
    seen: set[tuple[Path, str]] = set()
    for path, detail in _violations(document.value):
        if (path, detail) in seen:
            continue
        seen.add((path, detail))
        yield Finding(
            file=where,
            line=document.line(path),
            rule="compose_specification",
            detail=f"is not a compose file at {_name(path)}: {detail}",
            remedy="the compose specification says what may stand there",
        )
        if len(seen) == MOST:
            return
    # References can be followed only in a document whose parts are of the right kind.
    if not seen:
        yield from _references(document, where)


def _violations(value: Any) -> Iterator[tuple[Path, str]]:
    # Loaded at first use: most commands and most starts of the hub see no compose file.
    from jsonschema import exceptions

    matches = [(error, exceptions.best_match([error]) or error) for error in _validator().iter_errors(value)]
    for error, found in matches:
        path = tuple(found.absolute_path)
        if _holds_variable(error.instance) or _holds_variable(found.instance):
            continue
        if str(found.validator) in _UNKNOWN and isinstance(found.instance, dict):
            # A part with one wrong value makes the validator call its other keys unknown too.
            known = _keys(found.schema)
            unknown = [key for key in found.instance if key not in known and not key.startswith("x-")]
            if unknown:
                yield (*path, unknown[0]), f"unknown {', '.join(map(_shown, unknown[:5]))}"
            continue
        yield path, _words(found)


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    schema = resources.files("check_jsonschema.builtin_schemas.vendor") / "compose-spec.json"
    return Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))


def _keys(schema: Any) -> set[str]:
    """Return every key that a part of the schema knows, those of the parts that it refers to included."""
    keys = set(schema.get("properties", {}))
    for word in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(word, []):
            keys |= _keys(part)
    if str(schema.get("$ref", "")).startswith("#/"):
        target = _validator().schema
        for step in schema["$ref"][2:].split("/"):
            target = target[step]
        keys |= _keys(target)
    return keys


def _holds_variable(value: Any) -> bool:
    return isinstance(value, str) and has_variable(value)


def _words(error: Any) -> str:
    """Return the violation in few words: the library repeats the whole value, which may be the whole file."""
    rule, wanted = str(error.validator), error.validator_value
    if rule == "type":
        kinds = wanted if isinstance(wanted, list) else [wanted]
        return f"{_shown(error.instance)} is not of type {' or '.join(map(str, kinds))}"
    if rule == "required":
        return f"one of {', '.join(map(repr, wanted))} is missing"
    if rule == "enum":
        return f"{_shown(error.instance)} is none of {', '.join(map(str, wanted))}"
    return f"{_shown(error.instance)} does not fit the rule {rule!r}"


def _shown(value: Any) -> str:
    text = "a map" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _name(path: Path) -> str:
    return ".".join(map(str, path)) or "its top"


def _references(document: Document, where: str) -> Iterator[Finding]:
    top = document.value
    services = top.get("services") or {}
    for name, service in services.items():
        for key in ("networks", "secrets", "configs"):
            yield from _undefined(document, where, ("services", name, key), service, top.get(key), key)
        for key in ("depends_on", "links"):
            yield from _undefined(document, where, ("services", name, key), service, services, "services")
        volumes = top.get("volumes") or {}
        for number, volume in enumerate(service.get("volumes") or []):
            source = named_volume(volume)
            if source and source not in volumes:
                yield _missing(document, where, ("services", name, "volumes", number), source, "volumes")


def named_volume(volume: Any) -> str:
    """Return the named volume that an entry of `volumes` uses, "" for none."""
    if isinstance(volume, dict):
        source = volume.get("source") if volume.get("type") == "volume" else ""
    else:
        source, colon, _ = str(volume).partition(":")
        source = source if colon else ""
    text = str(source or "")
    return "" if text[:1] in ("", "/", ".", "~") or has_variable(text) else text


def _undefined(
    document: Document, where: str, path: Path, service: dict[str, Any], known: Any, kind: str
) -> Iterator[Finding]:
    used = service.get(str(path[-1])) or []
    for number, entry in enumerate(used):
        name = str(entry.get("source", "")) if isinstance(entry, dict) else str(entry).partition(":")[0]
        built_in = kind == "networks" and name == "default"
        if name and not built_in and not has_variable(name) and name not in (known or {}):
            place = (*path, name) if isinstance(used, dict) else (*path, number)
            yield _missing(document, where, place, name, kind)


def _missing(document: Document, where: str, path: Path, name: str, kind: str) -> Finding:
    return Finding(
        file=where,
        line=document.line(path),
        rule="undefined_reference",
        detail=f"uses {name!r}, which {kind!r} does not define",
        remedy=f"add it to {kind}, or mend the name",
    )
