"""Any bytes and any text at all are read or refused by an error of ours: nothing a stranger sends can do more."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable
from functools import partial

import msgpack
import msgspec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.topics.kit import (
    CLOCK,
    DESIRED_TOPIC,
    DEVICE,
    FLEET,
    NOW,
    TOPIC,
    key,
    pinned,
    public,
    signed_desired,
    signed_manifest,
    signed_release,
    signed_root,
)
from tests.topics.samples import SAMPLES
from topics import bundle, channels, codec, devicetoken, enrolment, schema, trust
from topics.channels import MANIFEST_LIMIT, UPLINK_LIMIT
from topics.envelope import open_envelope
from topics.errors import DecodeError, TopicError, TrustError
from topics.trust import accept_desired, accept_manifest, advance_root, pin_root

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary(max_size=64)
)
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)

FORMATS = (codec.JSON, codec.MSGPACK, None)
PINNED = pinned()
SIGNED = [signed_manifest(), signed_desired(), signed_release(), signed_root()]
SEEDS = [
    codec.encode(sample, content_type) for sample in SAMPLES.values() for content_type in FORMATS[:2]
] + SIGNED
TOKEN = enrolment.Token(b"s" * 32, "a" * 64, "b" * 64).text()
JWT = devicetoken.make(
    key(DEVICE), devicetoken.Claims(DEVICE, devicetoken.audience(FLEET), NOW // 1000, NOW // 1000 + 60, "1")
)

READERS: dict[str, Callable[[bytes], object]] = {
    "envelope": lambda data: open_envelope(data, limit=MANIFEST_LIMIT),
    "root to open": trust.open_root,
    "root to pin": lambda data: pin_root(data, trust.sha256(data)),
    "root to advance to": lambda data: advance_root(PINNED, data),
    "release": lambda data: trust.open_release(PINNED.root, data),
    "manifest": lambda data: accept_manifest(PINNED, TOPIC, data, CLOCK),
    "desired": lambda data: accept_desired(PINNED, DESIRED_TOPIC, data, CLOCK),
    "config": lambda data: trust.accept_config(PINNED, DEVICE, data),
    "bundle.json": bundle.parse_info,
    "checksums": bundle.parse_checksums,
}
for kind, (_, type_) in schema.KINDS.items():
    READERS[f"{kind}, signed"] = partial(codec.decode_signed, kind=type_, limit=UPLINK_LIMIT)
    for content_type in FORMATS:
        reader = partial(codec.decode, kind=type_, limit=UPLINK_LIMIT, content_type=content_type)
        READERS[f"{kind} as {content_type}"] = reader


@st.composite
def almost_messages(draw: st.DrawFn) -> bytes:
    """Draw a good message with something cut out, put in or turned over."""
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        data = data[:start] + draw(st.binary(max_size=8)) + data[start + draw(st.integers(0, 8)) :]
    return data


maps = st.dictionaries(
    st.text(max_size=12) | st.sampled_from(["boot", "at", "to", "v", "keys"]), trees, max_size=6
)
any_bytes = (
    st.binary(max_size=200)
    | almost_messages()
    | maps.map(lambda tree: bytes(msgpack.packb(tree)))
    | maps.map(lambda tree: msgspec.json.encode(tree, enc_hook=repr))
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@example(b"{" + b'"a":{' * 2000)
@example(b"\x81\xa1a" + b"\x91" * 60_000)
@example(b"\x81\xa1a" + b"\x81\xa1a" * 20_000)
@example(b'{"at":' + b"9" * 60_000 + b"}")
@given(any_bytes)
def test_any_bytes_are_read_or_refused_by_our_own_error(data: bytes) -> None:
    for name, read in READERS.items():
        try:
            read(data)
        except (DecodeError, TrustError) as refusal:
            word = refusal.reason if isinstance(refusal, DecodeError) else refusal.check
            assert word in codec.REASONS or word in trust.CHECKS, name


any_text = st.text(max_size=300) | st.binary(max_size=300).map(
    lambda data: data.decode("utf-8", "surrogateescape")
)


@given(
    any_text
    | any_text.map(lambda text: "fh1." + text)
    | st.integers(0, len(TOKEN)).map(lambda at: TOKEN[:at])
)
def test_any_text_is_an_enrolment_token_or_refused(text: str) -> None:
    try:
        assert enrolment.parse_token(text).text().strip() == TOKEN
    except DecodeError as refusal:
        assert refusal.reason == "invalid"


@given(
    any_text
    | any_text.map(lambda text: f"{JWT.split('.')[0]}.{text}")
    | any_text.map(lambda text: JWT + text)
)
def test_any_text_is_a_device_token_or_refused(text: str) -> None:
    for read in (
        devicetoken.subject,
        lambda token: devicetoken.verify(token, public(DEVICE), FLEET, NOW // 1000).sub,
    ):
        try:
            assert read(text) == DEVICE
        except DecodeError as refusal:
            assert refusal.reason == "invalid"


@given(st.integers(0, len(JWT) - 1), st.characters(codec="ascii"))
def test_any_changed_letter_of_a_device_token_refuses_it(at: int, letter: str) -> None:
    changed = JWT[:at] + letter + JWT[at + 1 :]
    try:
        claims = devicetoken.verify(changed, public(DEVICE), FLEET, NOW // 1000)
    except DecodeError:
        return
    assert claims.sub == DEVICE
    assert _raw(changed) == _raw(JWT), (
        "base64 has several spellings of the same bytes, and only those may pass"
    )


def _raw(token: str) -> list[bytes]:
    return [
        base64.urlsafe_b64decode(part.replace("+", "-").replace("/", "_") + "==") for part in token.split(".")
    ]


levels = st.sampled_from(
    ["acme", "v1", "trust", "root", "releases", "devices", "up", "down", "status", "+", "#", ""]
)


@given(any_text | st.lists(levels | any_text, max_size=8).map("/".join))
def test_any_text_is_a_topic_or_refused(text: str) -> None:
    try:
        address = channels.parse(text)
    except TopicError:
        return
    parts = {
        "id": address.device_id,
        **{name: getattr(address, name) for name in ("site", "role", "segment", "release")},
    }
    given_ = {name: value for name, value in parts.items() if value is not None}
    assert channels.BY_NAME[address.channel].topic(address.fleet, **given_) == text


@given(any_text)
def test_any_text_is_a_path_in_a_bundle_or_refused(text: str) -> None:
    with contextlib.suppress(DecodeError):
        assert bundle.path(text) == text
        assert not text.startswith("/")
        assert ".." not in text.split("/")
