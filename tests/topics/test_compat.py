"""Which changes of a message an older agent or hub survives, as a table."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from topics import codec
from topics.errors import DecodeError
from topics.schema.compat import breaking


def kind(**fields: Any) -> type[msgspec.Struct]:
    """Return a message type with `fields`: a type, or a pair of type and default."""
    listed: list[Any] = [
        (name, *spec) if isinstance(spec, tuple) else (name, spec) for name, spec in fields.items()
    ]
    return msgspec.defstruct("Kind", listed, kw_only=True, omit_defaults=True)


def closed(**fields: Any) -> type[msgspec.Struct]:
    """The same, refusing unknown fields."""
    return msgspec.defstruct("Kind", list(fields.items()), kw_only=True, forbid_unknown_fields=True)


def bounded(ge: int | None = None, le: int | None = None) -> Any:
    return Annotated[int, Meta(ge=ge, le=le)]


def named(pattern: str) -> Any:
    return Annotated[str, Meta(pattern=pattern)]


OLD_INNER = msgspec.defstruct("Inner", [("n", bounded(ge=0, le=10))])
NEW_INNER = msgspec.defstruct("Inner", [("n", bounded(ge=0, le=9))])

SURVIVED = [
    pytest.param(kind(a=int), kind(a=int), id="nothing changed"),
    pytest.param(kind(a=int), kind(a=int, b=(int, 0)), id="an optional field added"),
    pytest.param(kind(a=int, b=(int, 0)), kind(a=int), id="an optional field removed"),
    pytest.param(kind(a=int, b=int), kind(b=int, a=int), id="fields in another order"),
    pytest.param(kind(a=int), kind(a=Annotated[int, Meta(description="seconds")]), id="a description added"),
    pytest.param(kind(a=Literal["x", "y"]), kind(a=Literal["y", "x"]), id="an enumeration in another order"),
]

BROKEN = [
    pytest.param(kind(a=int), kind(a=int, b=int), ["$.b: is now required (older sender)"], id="required field added"),
    pytest.param(
        kind(a=int, b=int), kind(a=int), ["$.b: is no longer always sent (older reader)"], id="required field removed"
    ),
    pytest.param(
        kind(a=int), kind(a=(int, 0)), ["$.a: is no longer always sent (older reader)"], id="required became optional"
    ),
    pytest.param(kind(a=(int, 0)), kind(a=int), ["$.a: is now required (older sender)"], id="optional became required"),
    pytest.param(
        kind(a=(int, 0)), kind(a=(int, 1)), ["$.a: the default changed (older sender, older reader)"],
        id="the default changed",
    ),
    pytest.param(
        kind(a=int), kind(a=str), ["$.a: integer became string (older sender, older reader)"], id="the type changed"
    ),
    pytest.param(
        kind(a=float), kind(a=int), ["$.a: number became integer (older sender, older reader)"], id="the type narrowed"
    ),
    pytest.param(
        kind(a=bytes), kind(a=str), ["$.a: bytes became string (older sender, older reader)"], id="bytes became text"
    ),
    pytest.param(
        kind(a=int | None), kind(a=int), ["$.a: null is no longer taken (older sender)"], id="null no longer taken"
    ),
    pytest.param(kind(a=int), kind(a=int | None), ["$.a: null is new (older reader)"], id="null newly sent"),
    pytest.param(
        kind(a=int | str), kind(a=int | bool), [
            "$.a: string is no longer taken (older sender)", "$.a: boolean is new (older reader)"
        ],
        id="an alternative swapped",
    ),
    pytest.param(
        kind(a=Literal["x", "y"]), kind(a=Literal["x"]), ["$.a: 'y' is no longer taken (older sender)"],
        id="a value removed from an enumeration",
    ),
    pytest.param(
        kind(a=Literal["x"]), kind(a=Literal["x", "y"]), ["$.a: 'y' is new (older reader)"],
        id="a value added to an enumeration",
    ),
    pytest.param(
        kind(a=str), kind(a=Literal["x"]), ["$.a: string became enumeration (older sender, older reader)"],
        id="free text became an enumeration",
    ),
    pytest.param(
        kind(a=bounded(le=10)), kind(a=bounded(le=9)), ["$.a: maximum tightened from 10 to 9 (older sender)"],
        id="a maximum lowered",
    ),
    pytest.param(
        kind(a=bounded(le=10)), kind(a=bounded(le=11)), ["$.a: maximum loosened from 10 to 11 (older reader)"],
        id="a maximum raised",
    ),
    pytest.param(
        kind(a=int), kind(a=bounded(ge=0)), ["$.a: minimum tightened from None to 0 (older sender)"],
        id="a minimum added",
    ),
    pytest.param(
        kind(a=bounded(ge=0)), kind(a=int), ["$.a: minimum loosened from 0 to None (older reader)"],
        id="a minimum removed",
    ),
    pytest.param(
        kind(a=Annotated[str, Meta(max_length=8)]), kind(a=Annotated[str, Meta(max_length=4)]),
        ["$.a: maxLength tightened from 8 to 4 (older sender)"], id="a text shortened",
    ),
    pytest.param(
        kind(a=Annotated[list[int], Meta(max_length=8)]), kind(a=Annotated[list[int], Meta(max_length=4)]),
        ["$.a: maxItems tightened from 8 to 4 (older sender)"], id="a list shortened",
    ),
    pytest.param(
        kind(a=named("^a$")), kind(a=named("^b$")), ["$.a: the pattern changed (older sender, older reader)"],
        id="a pattern changed",
    ),
    pytest.param(
        kind(a=list[int]), kind(a=list[str]), ["$.a[items]: integer became string (older sender, older reader)"],
        id="elements of a list changed",
    ),
    pytest.param(
        kind(a=dict[str, int]), kind(a=dict[str, str]),
        ["$.a[additionalProperties]: integer became string (older sender, older reader)"], id="values of a map changed",
    ),
    pytest.param(
        kind(a=tuple[int, str]), kind(a=tuple[int, int]),
        ["$.a[1]: string became integer (older sender, older reader)"], id="a part of a tuple changed",
    ),
    pytest.param(
        kind(a=tuple[int, int]), kind(a=tuple[int, int, int]),
        ["$.a: minItems tightened from 2 to 3 (older sender)", "$.a: maxItems loosened from 2 to 3 (older reader)"],
        id="a tuple lengthened",
    ),
    pytest.param(
        kind(a=OLD_INNER), kind(a=NEW_INNER), ["$.a.n: maximum tightened from 10 to 9 (older sender)"],
        id="a field of a part changed",
    ),
    pytest.param(
        kind(a=OLD_INNER | None), kind(a=NEW_INNER | None), ["$.a.n: maximum tightened from 10 to 9 (older sender)"],
        id="a field of an optional part changed",
    ),
    pytest.param(
        closed(a=int), msgspec.defstruct("Kind", [("a", int), ("b", int, 0)], forbid_unknown_fields=True),
        ["$.b: is new where unknown fields are refused (older reader)"],
        id="an optional field added where unknown ones are refused",
    ),
    pytest.param(
        msgspec.defstruct("Kind", [("a", int), ("b", int, 0)], forbid_unknown_fields=True), closed(a=int),
        ["$.b: is gone where unknown fields are refused (older sender)"],
        id="an optional field removed where unknown ones are refused",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), SURVIVED)
def test_survived(old: type[msgspec.Struct], new: type[msgspec.Struct]) -> None:
    assert breaking(msgspec.json.schema(old), msgspec.json.schema(new)) == []


@pytest.mark.parametrize(("old", "new", "changes"), BROKEN)
def test_broken(old: type[msgspec.Struct], new: type[msgspec.Struct], changes: list[str]) -> None:
    assert breaking(msgspec.json.schema(old), msgspec.json.schema(new)) == changes


class Tree(msgspec.Struct):
    """A type that contains itself."""

    children: list[Tree] = []
    depth: int = 0


def test_a_type_that_contains_itself_is_compared_once() -> None:
    assert breaking(msgspec.json.schema(Tree), msgspec.json.schema(Tree)) == []


def test_the_newer_reader_really_refuses_what_the_report_says() -> None:
    """The report is about decoders: the same change, tried on the codec."""
    old, new = kind(a=bounded(le=10)), kind(a=bounded(le=9))
    sent = codec.encode(old(a=10))
    assert codec.decode(sent, old, limit=64) == old(a=10)
    with pytest.raises(DecodeError, match="invalid"):
        codec.decode(sent, new, limit=64)
