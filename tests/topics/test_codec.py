"""Bodies: what is refused and with which reason, and what two versions of a sender and a reader make of it."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import msgspec
import pytest

from tests.topics.samples import SAMPLES
from topics import codec
from topics.channels import UPLINK_LIMIT
from topics.codec import JSON, MSGPACK
from topics.errors import DecodeError
from topics.messages import Presence, Status

FIELDS: dict[str, Any] = {
    "boot": [1, "00000000"],
    "at": 1_750_000_000,
    "seq": 1,
    "role": "kiosk",
    "segment": "canary",
    "agent_version": "1",
}


def packed(**changes: Any) -> bytes:
    body: bytes = msgpack.packb({**FIELDS, **changes})
    return body


def as_json(**changes: Any) -> bytes:
    return json.dumps({**FIELDS, **changes}).encode()


def with_field(raw: bytes) -> bytes:
    """Return a JSON heartbeat with `raw` put in as one more field."""
    return as_json()[:-1] + b", " + raw + b"}"


def with_entry(raw: bytes) -> bytes:
    """Return a MessagePack heartbeat with `raw`, a key and a value, put in as one more entry."""
    body = packed()
    return bytes([body[0] + 1]) + body[1:] + raw


def without(*names: str) -> bytes:
    body: bytes = msgpack.packb({name: value for name, value in FIELDS.items() if name not in names})
    return body


NAN, INFINITY = float("nan"), float("inf")

BAD = [
    pytest.param(b"", "empty", "the body has no bytes", id="empty"),
    pytest.param(b"\x80" * (UPLINK_LIMIT + 1), "too_large", "65537 bytes, the limit is 65536", id="oversized"),
    pytest.param(b"[]", "not_a_map", "must be a map", id="a JSON array"),
    pytest.param(b" {}", "not_a_map", "must be a map", id="a space before JSON"),
    pytest.param(b"\xef\xbb\xbf{}", "not_a_map", "must be a map", id="a byte order mark"),
    pytest.param(b"null", "not_a_map", "must be a map", id="JSON null"),
    pytest.param(b"\x90", "not_a_map", "must be a map", id="a MessagePack array"),
    pytest.param(b"\xc0", "not_a_map", "must be a map", id="MessagePack nil"),
    pytest.param(b"\0" * 64, "not_a_map", "must be a map", id="all zero bytes, as after a power cut"),
    pytest.param(b"{", "malformed", "truncated", id="cut off JSON"),
    pytest.param(packed()[:-1], "malformed", "truncated", id="cut off MessagePack"),
    pytest.param(b"\xdf\xff\xff\xff\xff", "malformed", "truncated", id="a map of four billion entries"),
    pytest.param(as_json() + b"x", "malformed", "trailing", id="trailing bytes after JSON"),
    pytest.param(packed() + b"\xc0", "malformed", "trailing", id="trailing bytes after MessagePack"),
    pytest.param(as_json(zone="\udc80x"), "malformed", "surrogate", id="a lone surrogate in JSON"),
    pytest.param(with_field(b'"zone": "\xff\xfe"'), "malformed", "utf-8", id="JSON that is not UTF-8"),
    pytest.param(with_entry(b"\xa4zone\xa2\xff\xfe"), "malformed", "utf-8", id="MessagePack that is not UTF-8"),
    pytest.param(as_json(probes={"cpu_load": NAN}), "malformed", "invalid character", id="NaN in JSON"),
    pytest.param(as_json(probes={"cpu_load": INFINITY}), "malformed", "invalid character", id="infinity in JSON"),
    pytest.param(packed(probes={"cpu_load": NAN}), "invalid", "$.probes.cpu_load", id="NaN in MessagePack"),
    pytest.param(packed(probes={"cpu_load": INFINITY}), "invalid", "$.probes.cpu_load", id="infinity in MessagePack"),
    pytest.param(packed(probes={"cpu_load": -INFINITY}), "invalid", "$.probes.cpu_load", id="minus infinity"),
    pytest.param(with_field(b'"probes": {"cpu_load": 1e400}'), "invalid", "out of range", id="a float too large"),
    pytest.param(packed(seq=2**63), "invalid", "$.seq", id="2**63 in MessagePack"),
    pytest.param(packed(seq=2**64 - 1), "invalid", "$.seq", id="2**64-1 in MessagePack"),
    pytest.param(as_json(seq=2**63), "invalid", "$.seq", id="2**63 in JSON"),
    pytest.param(as_json(seq=10**400), "invalid", "$.seq", id="10**400 in JSON"),
    pytest.param(with_field(b'"floor": ' + b"9" * 5000), "invalid", "$.floor", id="an integer of 5000 digits"),
    pytest.param(packed(seq=-1), "invalid", "$.seq", id="a negative counter"),
    pytest.param(packed(at=253_402_300_800), "invalid", "$.at", id="a time after the year 9999"),
    pytest.param(packed(zone="Europe\0Berlin"), "invalid", "$.zone", id="NUL in MessagePack text"),
    pytest.param(as_json(zone="Europe\0Berlin"), "invalid", "$.zone", id="NUL in JSON text"),
    pytest.param(packed(zone="z" * 129), "invalid", "$.zone", id="text too long"),
    pytest.param(packed(role="Kiosk"), "invalid", "$.role", id="a role in upper case"),
    pytest.param(packed(role="kiosk\n"), "invalid", "$.role", id="a role with a line end"),
    pytest.param(packed(failed=["kiosk-1-0"] * 33), "invalid", "$.failed", id="a list too long"),
    pytest.param(packed(health="splendid"), "invalid", "$.health", id="a word that is not in the list"),
    pytest.param(packed(boot=[1]), "invalid", "$.boot", id="half a boot mark"),
    pytest.param(packed(at="1750000000"), "invalid", "$.at", id="text for a number"),
    pytest.param(packed(at=1.0), "invalid", "$.at", id="a float for an integer"),
    pytest.param(packed(at=True), "invalid", "$.at", id="a bool for an integer"),
    pytest.param(packed(clock_ok=1), "invalid", "$.clock_ok", id="an integer for a bool"),
    pytest.param(packed(running=[]), "invalid", "$.running", id="a list for a map"),
    pytest.param(packed(seq=None), "invalid", "$.seq", id="nothing for a number"),
    pytest.param(without("seq"), "invalid", "required field `seq`", id="a required field is missing"),
    pytest.param(with_entry(b"\x05\xc0"), "invalid", "`key`", id="a number as a key"),
    pytest.param(with_entry(b"\xc4\x04zone\xa3UTC"), "invalid", "`key`", id="bytes as a key"),
    pytest.param(with_field(b'"x": ' + b"[" * 30_000 + b"]" * 30_000), "too_deep", "nested", id="deep JSON arrays"),
    pytest.param(with_field(b'"x": ' + b'{"x":' * 9000), "too_deep", "nested", id="deep JSON maps"),
    pytest.param(with_entry(b"\xa1x" + b"\x91" * 60_000 + b"\xc0"), "too_deep", "nested", id="deep MessagePack arrays"),
    pytest.param(with_entry(b"\xa1x" + b"\x81\xa1x" * 20_000), "too_deep", "nested", id="deep MessagePack maps"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "reason", "detail"), BAD)
def test_bad_body_is_refused_with(body: bytes, reason: str, detail: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        codec.decode(body, Status, limit=UPLINK_LIMIT)
    assert refusal.value.reason == reason
    assert detail in refusal.value.detail
    assert str(refusal.value) == f"{reason}: {refusal.value.detail}"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(packed(), JSON, id="MessagePack called JSON"),
        pytest.param(as_json(), MSGPACK, id="JSON called MessagePack"),
    ],
)
def test_content_type_is_believed_over_the_first_byte(body: bytes, content_type: str) -> None:
    with pytest.raises(DecodeError, match="not_a_map"):
        codec.decode(body, Status, limit=UPLINK_LIMIT, content_type=content_type)


SIGNED_BAD = [
    pytest.param(b"", "empty", id="empty"),
    pytest.param(b"\x80" * 5000, "too_large", id="oversized"),
    pytest.param(as_json(), "not_a_map", id="JSON"),
    pytest.param(b"\x90", "not_a_map", id="an array"),
    pytest.param(packed()[:-1], "malformed", id="cut off"),
    pytest.param(packed() + b"\xc0", "malformed", id="a trailing byte"),
    pytest.param(packed() + packed(), "malformed", id="a second document behind the first"),
    pytest.param(with_entry(b"\xa3seq\x02"), "duplicate_key", id="a key twice"),
    pytest.param(with_entry(b"\xa1x\x82\xa1a\x01\xa1a\x02"), "duplicate_key", id="a key twice in a field nobody reads"),
    pytest.param(with_entry(b"\xd9\x03seq\x02"), "duplicate_key", id="a key twice, encoded in two ways"),
    pytest.param(with_entry(b"\x05\xc0"), "malformed", id="a number as a key"),
    pytest.param(with_entry(b"\xc4\x03seq\x02"), "invalid", id="bytes as a key that reads like another"),
    pytest.param(with_entry(b"\xa4zone\xa2\xff\xfe"), "malformed", id="text that is not UTF-8"),
    pytest.param(with_entry(b"\xa1x\xa2\xff\xfe"), "malformed", id="a field nobody reads that is not UTF-8"),
    pytest.param(with_entry(b"\xa1x\xc1"), "malformed", id="the byte that MessagePack never uses"),
    pytest.param(with_entry(b"\xa1x\xc7\x0c\xff" + b"\xff" * 12), "malformed", id="a timestamp out of range"),
    pytest.param(with_entry(b"\xa4zone\xd4\x05\x00"), "invalid", id="an extension type for text"),
    pytest.param(packed(seq=2**64 - 1), "invalid", id="2**64-1"),
    pytest.param(packed(probes={"cpu_load": NAN}), "invalid", id="NaN"),
    pytest.param(packed(zone="a\0b"), "invalid", id="NUL in text"),
    pytest.param(packed(at=1.0), "invalid", id="a float for an integer"),
    pytest.param(without("seq"), "invalid", id="a required field is missing"),
    pytest.param(with_entry(b"\xa1x" + b"\x91" * 16 + b"\xc0"), "too_deep", id="one level too deep"),
    pytest.param(with_entry(b"\xa1x" + b"\x91" * 4000 + b"\xc0"), "too_deep", id="thousands of levels"),
]  # fmt: skip


@pytest.mark.parametrize(("payload", "reason"), SIGNED_BAD)
def test_bad_signed_payload_is_refused_with(payload: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        codec.decode_signed(payload, Status, limit=4500)
    assert refusal.value.reason == reason


def test_every_reason_has_a_row_and_no_row_another_reason() -> None:
    assert {str(row.values[1]) for row in [*BAD, *SIGNED_BAD]} == set(codec.REASONS)


def test_a_signed_payload_as_deep_as_allowed_is_read() -> None:
    payload = with_entry(b"\xa1x" + b"\x91" * 15 + b"\xc0")
    assert codec.decode_signed(payload, Status, limit=4096).seq == 1


def test_bytes_in_a_signed_payload_are_not_taken_from_base64_text() -> None:
    """A reader in another language would see text there: one signature, two documents."""

    class Blob(msgspec.Struct):
        data: bytes

    assert codec.decode_signed(msgpack.packb({"data": b"AAAA"}), Blob, limit=64).data == b"AAAA"
    with pytest.raises(DecodeError, match="invalid"):
        codec.decode_signed(msgpack.packb({"data": "AAAA"}), Blob, limit=64)


@pytest.mark.parametrize("content_type", [JSON, MSGPACK])
@pytest.mark.parametrize("kind", SAMPLES)
def test_round_trip(kind: str, content_type: str) -> None:
    sample = SAMPLES[kind]
    body = codec.encode(sample, content_type)
    assert codec.decode(body, type(sample), limit=UPLINK_LIMIT, content_type=content_type) == sample
    assert codec.encode(codec.decode(body, type(sample), limit=UPLINK_LIMIT), content_type) == body


@pytest.mark.parametrize(
    "body", [pytest.param(packed(), id="MessagePack"), pytest.param(as_json(), id="JSON")]
)
def test_an_older_sender_is_understood(body: bytes) -> None:
    """It knows only the required fields; what it leaves out takes the defaults."""
    status = codec.decode(body, Status, limit=UPLINK_LIMIT)
    assert (status.v, status.clock_ok, status.health, status.running, status.failed) == (
        1,
        True,
        "ok",
        None,
        [],
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(packed(v=2, mood={"today": ["good", 1, None]}), id="MessagePack"),
        pytest.param(as_json(v=2, mood={"today": ["good", 1, None]}), id="JSON"),
        pytest.param(packed(v=2, running={"id": "kiosk-1-0", "sequence": 1, "mood": 1}), id="in a part"),
        pytest.param(with_field(b'"v": 2, "x": ' + b"[" * 40 + b"]" * 40), id="deeper than anything of ours"),
        pytest.param(with_field(b'"v": 2, "x": ' + b"9" * 5000), id="an unknown number of 5000 digits"),
    ],
)
def test_a_newer_sender_is_understood(body: bytes) -> None:
    """Fields that this version does not know are passed over."""
    assert codec.decode(body, Status, limit=UPLINK_LIMIT).v == 2


def test_of_two_equal_keys_in_an_unsigned_body_the_last_counts_in_both_formats() -> None:
    assert codec.decode(with_field(b'"seq": 2'), Status, limit=UPLINK_LIMIT).seq == 2
    assert codec.decode(with_entry(b"\xa3seq\x02"), Status, limit=UPLINK_LIMIT).seq == 2


def test_a_body_at_its_limit_is_read() -> None:
    body = packed()
    assert codec.decode(body, Status, limit=len(body)).seq == 1
    with pytest.raises(DecodeError, match="too_large"):
        codec.decode(body, Status, limit=len(body) - 1)


@pytest.mark.parametrize("kind", [kind for kind in SAMPLES if not kind.startswith("register")])
def test_no_message_of_ours_is_deeper_than_four_levels(kind: str) -> None:
    assert _levels(msgspec.to_builtins(SAMPLES[kind])) <= 4


def _levels(node: Any) -> int:
    children = (
        list(node.values()) if isinstance(node, dict) else node if isinstance(node, list | tuple) else None
    )
    if children is None:
        return 0
    return 1 + max((_levels(child) for child in children), default=0)


def test_no_messagepack_map_starts_like_json() -> None:
    """Which is what tells the two apart when no Content Type says."""
    for size in (0, 1, 15, 16, 70_000):
        body = msgpack.packb({str(number): None for number in range(size)})
        assert body[:1] != b"{"
        assert codec.sniff(body) == MSGPACK
    assert codec.sniff(codec.encode(SAMPLES["presence"], JSON)) == JSON


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "text/plain", "", None])
def test_an_unknown_content_type_leaves_it_to_the_first_byte(content_type: str | None) -> None:
    for format_ in (JSON, MSGPACK):
        body = codec.encode(SAMPLES["presence"], format_)
        assert codec.decode(body, Presence, limit=4096, content_type=content_type) == SAMPLES["presence"]
