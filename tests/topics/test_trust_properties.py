"""What holds for any bytes and any order of messages, not only for those somebody thought of."""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.topics.kit import (
    CLOCK,
    DAY,
    DESIRED_TOPIC,
    FLEET,
    NOW,
    TOPIC,
    facts,
    key,
    keyid,
    manifest,
    pinned,
    public,
    release,
    sign,
    signed_desired,
    signed_manifest,
    signed_release,
    signed_root,
)
from tests.topics.samples import SAMPLES
from topics import codec, envelope, trust
from topics.channels import DESIRED, MANIFEST, MANIFEST_LIMIT
from topics.eligibility import REASONS, decide
from topics.envelope import open_envelope, verify
from topics.errors import ContractError, DecodeError, TopicError, TrustError
from topics.trust import Clock, accept_desired, accept_manifest, advance_root

SLOW = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

manifests = st.builds(
    signed_manifest,
    st.integers(0, NOW + 400 * DAY) | st.integers(NOW - 2, NOW + 2),
    stable=st.none() | st.builds(signed_release, st.integers(1, 9), floor=st.integers(0, 9)),
    paused=st.booleans(),
    to=st.sampled_from([TOPIC, TOPIC, TOPIC, MANIFEST.topic(FLEET, role="kiosk", segment="early")]),
    signers=st.sampled_from([("hub-1",), ("hub-1",), ("hub-1",), ("stranger",), ()]),
)


@SLOW
@given(st.lists(manifests, max_size=6), st.booleans())
def test_no_sequence_of_manifests_lowers_what_is_trusted(documents: list[bytes], clock_ok: bool) -> None:
    state = pinned()
    for data in documents:
        before = state
        with contextlib.suppress(TrustError):
            state, _ = accept_manifest(state, TOPIC, data, Clock(NOW, clock_ok))
        assert state.issued_at(TOPIC) >= before.issued_at(TOPIC)
        assert state.floor("kiosk") >= before.floor("kiosk")
        assert set(state.marks) <= {TOPIC}


@SLOW
@given(st.permutations([signed_manifest(NOW + step, stable=signed_release(step + 1)) for step in range(4)]))
def test_the_newest_manifest_wins_in_any_order_of_arrival(documents: list[bytes]) -> None:
    state = pinned()
    held = 0
    for data in documents:
        with contextlib.suppress(TrustError):
            state, trusted = accept_manifest(state, TOPIC, data, CLOCK)
            held = trusted.manifest.issued_at
    assert held == state.issued_at(TOPIC) == NOW + 3


names_ = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
segments = st.sampled_from(["canary", "early", "general"])


@SLOW
@given(names_, segments, names_, segments)
def test_a_manifest_never_takes_effect_under_another_address(
    role: str, segment: str, to_role: str, to_segment: str
) -> None:
    own = MANIFEST.topic(FLEET, role=role, segment=segment)
    arrives = MANIFEST.topic(FLEET, role=to_role, segment=to_segment)
    for to in (own, arrives):
        data = signed_manifest(role=role, segment=segment, to=to, stable=None)
        if own == arrives:
            accept_manifest(pinned(), arrives, data, CLOCK)
        else:
            with pytest.raises(TrustError, match="addressee"):
                accept_manifest(pinned(), arrives, data, CLOCK)


@SLOW
@given(names_, names_, st.booleans())
def test_a_desired_state_never_takes_effect_on_another_device(
    mine: str, theirs: str, readdressed: bool
) -> None:
    topic = DESIRED.topic(FLEET, id=mine)
    to = topic if readdressed else DESIRED.topic(FLEET, id=theirs)
    data = signed_desired(device_id=theirs, to=to)
    if mine == theirs:
        assert accept_desired(pinned(), topic, data, CLOCK)[1].desired.device_id == mine
        return
    with pytest.raises(TrustError, match="addressee"):
        accept_desired(pinned(), topic, data, CLOCK)


ENVELOPES = {
    "manifest": (signed_manifest(), "hub-1"),
    "desired": (signed_desired(), "hub-1"),
    "release": (signed_release(), "release-1"),
    "root": (signed_root(), "root-1"),
}


@pytest.mark.parametrize("kind", ENVELOPES)
def test_any_changed_byte_of_an_envelope_refuses_it(kind: str) -> None:
    """Every byte, three ways. What still opens must be the same document under the same signature."""
    data, signer = ENVELOPES[kind]
    original = open_envelope(data, limit=MANIFEST_LIMIT)
    for at in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            changed = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
            with pytest.raises(TrustError):
                opened = open_envelope(changed, limit=MANIFEST_LIMIT)
                assert opened != original
                verify(opened, kind, {keyid(signer): public(signer)}, 1, signer=signer.split("-")[0])


@SLOW
@given(
    st.sampled_from(sorted(ENVELOPES)),
    st.integers(0, 4000),
    st.integers(0, 40),
    st.binary(min_size=0, max_size=40),
)
def test_any_splice_of_an_envelope_refuses_it(kind: str, start: int, length: int, splice: bytes) -> None:
    data, signer = ENVELOPES[kind]
    start %= len(data)
    changed = data[:start] + splice + data[start + length :]
    try:
        opened = open_envelope(changed, limit=MANIFEST_LIMIT)
        payload = verify(opened, kind, {keyid(signer): public(signer)}, 1, signer="root")
    except TrustError:
        return
    assert payload == open_envelope(data, limit=MANIFEST_LIMIT).payload


FIELD_CHANGES = st.sampled_from(sorted(msgpack.unpackb(codec.encode(manifest()))))
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


@given(FIELD_CHANGES, leaves)
def test_any_changed_field_of_a_manifest_breaks_its_signature(field: str, value: Any) -> None:
    envelope_ = msgpack.unpackb(signed_manifest())
    payload = msgpack.unpackb(envelope_["payload"])
    if payload[field] == value:
        return
    changed = msgpack.packb(
        {**envelope_, "payload": msgpack.packb({**payload, field: value}, unicode_errors="surrogatepass")}
    )
    with pytest.raises(TrustError, match="deployment_threshold"):
        accept_manifest(pinned(), TOPIC, changed, CLOCK)


@given(FIELD_CHANGES, trees)
def test_whatever_the_deployment_key_signs_is_accepted_or_refused_by_a_check(field: str, value: Any) -> None:
    """A hub with a bug, or one that was broken into, cannot crash an agent."""
    payload = {**msgpack.unpackb(codec.encode(manifest())), field: value}
    data = _signed_tree(payload)
    if data is None:
        return
    try:
        state, trusted = accept_manifest(pinned(), TOPIC, data, CLOCK)
    except TrustError as refusal:
        assert refusal.check in trust.CHECKS
        return
    assert decide(state, trusted, None, facts(), NOW).reason in REASONS


def _signed_tree(tree: dict[str, Any]) -> bytes | None:
    try:
        return envelope.sign(msgpack.packb(tree), "manifest", [key("hub-1")])
    except (OverflowError, ValueError):
        return None  # not every Python value has a MessagePack form


def test_our_errors_have_one_root() -> None:
    assert all(issubclass(kind, ContractError) for kind in (DecodeError, TopicError, TrustError))
    assert not issubclass(TrustError, DecodeError), "a document refused is not a body refused"


def test_a_signed_sample_of_every_document_is_accepted() -> None:
    """So the refusals above are not those of a reader that refuses everything."""
    state, trusted = accept_manifest(pinned(), TOPIC, sign(SAMPLES["manifest"], "manifest", ["hub-1"]), CLOCK)
    assert trusted.candidate is not None
    assert trusted.waypoints == (release(6),)
    state, own = accept_desired(state, DESIRED_TOPIC, sign(SAMPLES["desired"], "desired", ["hub-1"]), CLOCK)
    assert own.version_lock == release(6)
    assert advance_root(state, signed_root(2)).root.version == 2
