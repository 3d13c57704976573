"""What is on the wire stays readable: golden bodies and published schemas of every kind."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tests.topics.samples import GOLDEN, SAMPLES, SCHEMAS, SUFFIXES, schema_text
from topics import codec, schema
from topics.schema.compat import breaking

HOW = "changed on purpose? `python -m tests.topics.samples` writes the golden files anew"


def test_every_kind_has_a_sample_and_a_golden_file() -> None:
    assert SAMPLES.keys() == schema.KINDS.keys()
    assert {path.name for path in GOLDEN.iterdir()} == {
        kind + suffix for kind in SAMPLES for suffix in SUFFIXES
    }
    assert {path.name for path in SCHEMAS.iterdir()} == {f"{kind}.json" for kind in SAMPLES}


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_sample_leaves_no_field_at_its_default(kind: str) -> None:
    """A field that the golden body leaves out is a field whose encoding nobody watches."""
    type_ = schema.KINDS[kind][1]
    body = json.loads((GOLDEN / f"{kind}.json").read_bytes())
    allowed = {"v", "clock_ok", "device_id", "cause"} if kind != "status" else {"v"}
    assert {field.encode_name for field in msgspec.structs.fields(type_)} - body.keys() <= allowed


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", SAMPLES)
def test_golden_body_is_read_and_written_as_ever(kind: str, suffix: str) -> None:
    golden = (GOLDEN / f"{kind}{suffix}").read_bytes()
    sample, content_type = SAMPLES[kind], SUFFIXES[suffix]
    assert codec.encode(sample, content_type) == golden, HOW
    assert codec.decode(golden, type(sample), limit=len(golden), content_type=content_type) == sample
    assert codec.decode(golden, type(sample), limit=len(golden)) == sample, "the first byte says which format"


@pytest.mark.parametrize("kind", ["root", "release", "manifest", "desired", "config", "credentials"])
def test_golden_signed_payload_is_read_by_the_strict_decoder(kind: str) -> None:
    golden = (GOLDEN / f"{kind}.msgpack").read_bytes()
    assert codec.decode_signed(golden, type(SAMPLES[kind]), limit=len(golden)) == SAMPLES[kind]


@pytest.mark.parametrize("kind", SAMPLES)
def test_published_schema_is_that_of_the_type(kind: str) -> None:
    published = (SCHEMAS / f"{kind}.json").read_text()
    changes = breaking(json.loads(published), schema.json_schema(kind))
    assert changes == [], "older agents or hubs would not survive this"
    assert schema_text(kind) == published, HOW


@pytest.mark.parametrize("kind", SAMPLES)
def test_published_schema_speaks_json_schema_and_not_python(kind: str) -> None:
    """ECMA 262 reads Python's end mark as the letter Z, and a validator elsewhere would refuse every name."""
    document = json.loads((SCHEMAS / f"{kind}.json").read_text())
    patterns = list(_patterns(document))
    assert not [pattern for pattern in patterns if "\\Z" in pattern or "\\A" in pattern or "(?P" in pattern]
    assert document["$id"] == f"flaghoist:{kind}:1"


def _patterns(node: Any) -> list[str]:
    if isinstance(node, list):
        return [found for item in node for found in _patterns(item)]
    if not isinstance(node, dict):
        return []
    own = [node["pattern"]] if isinstance(node.get("pattern"), str) else []
    return own + [found for value in node.values() for found in _patterns(value)]


def test_an_unknown_kind_has_no_schema() -> None:
    with pytest.raises(KeyError):
        schema.json_schema("rumour")
