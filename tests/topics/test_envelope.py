"""Envelopes: what is signed, what counts as a signature, and what is refused before anything is believed."""

from __future__ import annotations

import msgpack
import pytest
from nacl.signing import SigningKey

from tests.topics.kit import key, keyid, public
from topics import codec, envelope
from topics.envelope import MAX_SIGNATURES, Envelope, EnvelopeSignature, open_envelope, pae, verify
from topics.errors import TrustError

LIMIT = 4096
PAYLOAD = codec.encode(EnvelopeSignature("0" * 32, b"\0" * 64))
KEYS = {keyid(name): public(name) for name in ("one", "two", "three")}


def signed(*names: str) -> bytes:
    return envelope.sign(PAYLOAD, "manifest", [key(name) for name in names])


def test_pae_is_that_of_the_dsse_specification() -> None:
    """The vector of the DSSE protocol document."""
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_pae_counts_bytes_and_not_characters() -> None:
    assert pae("é", "é".encode()) == b"DSSEv1 2 \xc3\xa9 2 \xc3\xa9"


def test_no_two_pairs_of_type_and_payload_share_a_pae() -> None:
    assert pae("a 1 b", b"c") != pae("a", b"b 1 c")


def test_signature_is_plain_ed25519_over_the_pae() -> None:
    """RFC 8032, test 1 of 7.1 has this key; so any Ed25519 library can check an envelope."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    rfc_key = SigningKey(seed)
    assert (
        bytes(rfc_key.verify_key).hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    )
    opened = open_envelope(envelope.sign(PAYLOAD, "manifest", [rfc_key]), limit=LIMIT)
    rfc_key.verify_key.verify(pae(opened.payloadType, PAYLOAD), opened.signatures[0].sig)
    assert opened.signatures[0].keyid == envelope.key_id(bytes(rfc_key.verify_key))


@pytest.mark.parametrize(
    ("names", "threshold", "enough"),
    [
        pytest.param(("one",), 1, True, id="one of one"),
        pytest.param(("one", "two"), 2, True, id="two of two"),
        pytest.param(
            ("stranger", "two", "one"), 2, True, id="a stranger's signature beside enough good ones"
        ),
        pytest.param((), 1, False, id="none"),
        pytest.param(("one",), 2, False, id="one of two"),
        pytest.param(("one", "one"), 2, False, id="one key twice"),
        pytest.param(("one", "stranger"), 2, False, id="one known key and a stranger"),
        pytest.param((), 0, False, id="a threshold of nobody"),
        pytest.param(("one",), 0, False, id="a threshold of nobody, signed"),
        pytest.param(("one",), -1, False, id="a negative threshold"),
    ],
)
def test_threshold(names: tuple[str, ...], threshold: int, enough: bool) -> None:
    opened = open_envelope(signed(*names), limit=LIMIT)
    if enough:
        assert verify(opened, "manifest", KEYS, threshold, signer="deployment") == PAYLOAD
        return
    with pytest.raises(TrustError) as refusal:
        verify(opened, "manifest", KEYS, threshold, signer="deployment")
    assert refusal.value.check == "deployment_threshold"


@pytest.mark.parametrize(
    "public_key",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"k" * 31, id="short"),
        pytest.param(b"\0" * 32, id="zero"),
    ],
)
def test_a_key_that_is_no_key_verifies_nothing(public_key: bytes) -> None:
    opened = open_envelope(signed("one"), limit=LIMIT)
    with pytest.raises(TrustError, match="root_threshold"):
        verify(opened, "manifest", {keyid("one"): public_key}, 1, signer="root")


def test_a_small_order_key_does_not_sign_everything() -> None:
    """With the neutral element as a key, an all-zero S would verify for any message in a lax library."""
    neutral = b"\1" + b"\0" * 31
    forged = Envelope(
        PAYLOAD, envelope.payload_type("root"), [EnvelopeSignature("0" * 32, neutral + b"\0" * 32)]
    )
    with pytest.raises(TrustError, match="root_threshold"):
        verify(forged, "root", {"0" * 32: neutral}, 1, signer="root")


def test_signatures_of_several_people_are_gathered() -> None:
    """Two release keys in two places sign one after the other; signing again replaces, never adds."""
    data = signed("one")
    data = envelope.add_signature(data, key("two"), limit=LIMIT)
    again = envelope.add_signature(data, key("two"), limit=LIMIT)
    assert again == data
    assert [entry.keyid for entry in open_envelope(data, limit=LIMIT).signatures] == [
        keyid("one"),
        keyid("two"),
    ]
    assert verify(open_envelope(data, limit=LIMIT), "manifest", KEYS, 2, signer="deployment") == PAYLOAD


@pytest.mark.parametrize(
    ("data", "check"),
    [
        pytest.param(signed("one") + b"\0" * LIMIT, "too_large", id="over the limit"),
        pytest.param(b"", "malformed", id="empty"),
        pytest.param(b"\xc0", "malformed", id="not a map"),
        pytest.param(signed("one")[:-1], "malformed", id="cut off"),
        pytest.param(signed("one") + b"\0", "malformed", id="a byte too many"),
        pytest.param(msgpack.packb({"payload": b"", "payloadType": "x"}), "malformed", id="no signatures field"),
        pytest.param(
            msgpack.packb({"payload": b"", "payloadType": "x", "signatures": [{"keyid": "0" * 32, "sig": b"short"}]}),
            "malformed", id="a short signature",
        ),
        pytest.param(
            msgpack.packb({"payload": b"", "payloadType": "x", "signatures": [{"keyid": "KEY", "sig": b"\0" * 64}]}),
            "malformed", id="a key id that is none",
        ),
    ],
)  # fmt: skip
def test_what_is_no_envelope_is_refused(data: bytes, check: str) -> None:
    with pytest.raises(TrustError) as refusal:
        open_envelope(data, limit=LIMIT)
    assert refusal.value.check == check


def test_as_many_signatures_as_allowed_are_read() -> None:
    names = [f"key-{number}" for number in range(MAX_SIGNATURES)]
    assert len(open_envelope(signed(*names), limit=LIMIT).signatures) == MAX_SIGNATURES
