"""Every field of every message has a bound: what has none breaks a store or a screen further on."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from msgspec import inspect

from topics import schema
from topics.bundle import BundleInfo, Checksums
from topics.devicetoken import Claims
from topics.enrolment import Token
from topics.envelope import Envelope

TYPES: list[type[msgspec.Struct]] = [kind for _, kind in schema.KINDS.values()]
TYPES += [Token, Claims, BundleInfo, Checksums, Envelope]


def unbounded(node: inspect.Type, path: str) -> Iterator[str]:
    """Yield the path of every field without a bound. Maps have none of their own: the body's cap bounds them."""
    match node:
        case inspect.Metadata():
            yield from unbounded(node.type, path)
        case inspect.IntType() | inspect.FloatType():
            if (node.ge is None and node.gt is None) or (node.le is None and node.lt is None):
                yield f"{path}: a number without bounds"
        case inspect.StrType():
            if node.pattern is None:
                yield f"{path}: text that may hold NUL"
            elif node.max_length is None and ("*" in node.pattern or "+" in node.pattern):
                yield f"{path}: text of any length"
        case inspect.BytesType():
            if node.max_length is None:
                yield f"{path}: bytes of any length"
        case inspect.ListType():
            if node.max_length is None:
                yield f"{path}: a list of any length"
            yield from unbounded(node.item_type, f"{path}[]")
        case inspect.DictType():
            yield from unbounded(node.key_type, f"{path} key")
            yield from unbounded(node.value_type, f"{path} value")
        case inspect.TupleType():
            for index, item in enumerate(node.item_types):
                yield from unbounded(item, f"{path}[{index}]")
        case inspect.UnionType():
            for option in node.types:
                yield from unbounded(option, path)
        case inspect.StructType():
            for field in node.fields:
                yield from unbounded(field.type, f"{path}.{field.name}")
        case inspect.LiteralType() | inspect.BoolType() | inspect.NoneType():
            return
        case _:
            yield f"{path}: {type(node).__name__} is a type this check does not know"


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_every_field_is_bounded(kind: type[msgspec.Struct]) -> None:
    assert list(unbounded(inspect.type_info(kind), kind.__name__)) == []


def test_the_check_itself_finds_fields_without_bounds() -> None:
    class Loose(msgspec.Struct):
        number: int
        text: str
        data: bytes
        rows: list[float]
        anything: dict[str, object]

    found = list(unbounded(inspect.type_info(Loose), "Loose"))
    assert [line.split(":")[0] for line in found] == [
        "Loose.number",
        "Loose.text",
        "Loose.data",
        "Loose.rows",
        "Loose.rows[]",
        "Loose.anything key",
        "Loose.anything value",
    ]
