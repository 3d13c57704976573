"""First contact: tokens that people copy, and proofs that fit one token, one device, one key and one nonce."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace

import msgpack
import msgspec
import pytest

from tests.topics.kit import DEVICE, key, public
from topics.enrolment import TOKEN_PREFIX, RegisterRequest, Token, is_proven, parse_token, prove, token_id
from topics.errors import DecodeError

TOKEN = Token(secret=b"s" * 32, root_sha256="a" * 64, ca_sha256="b" * 64)
OTHER_TOKEN = Token(secret=b"t" * 32, root_sha256="a" * 64, ca_sha256="b" * 64)
NONCE = b"n" * 32


def test_token_comes_back_from_its_text() -> None:
    assert parse_token(TOKEN.text()) == TOKEN
    assert TOKEN.text().startswith(TOKEN_PREFIX)


@pytest.mark.parametrize("around", ["{}\n", "  {}  ", "\t{}\r\n"])
def test_white_space_around_a_copied_token_does_no_harm(around: str) -> None:
    assert parse_token(around.format(TOKEN.text())) == TOKEN


def encoded(payload: object) -> str:
    """Return `payload` in a token's clothes."""
    raw = payload if isinstance(payload, bytes) else msgpack.packb(payload)
    return TOKEN_PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("=")


FIELDS = {"secret": b"s" * 32, "root_sha256": "a" * 64, "ca_sha256": "b" * 64}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("fh1.", id="only the prefix"),
        pytest.param(TOKEN.text()[:-8], id="the end not copied"),
        pytest.param(TOKEN.text()[40:], id="the start not copied"),
        pytest.param(TOKEN.text() + "AAAA", id="something copied behind it"),
        pytest.param(TOKEN.text() * 2, id="copied twice"),
        pytest.param(TOKEN.text()[:60] + " " + TOKEN.text()[60:], id="broken by a space"),
        pytest.param(TOKEN.text()[:60] + "\n" + TOKEN.text()[60:], id="broken over two lines"),
        pytest.param("fh1.…", id="shortened by a terminal"),
        pytest.param("fh1.é" + TOKEN.text()[4:], id="a letter outside ASCII"),
        pytest.param("fh1.\udc80", id="a lone surrogate, as argv may hold"),
        pytest.param("https://hub.example/token", id="a link"),
        pytest.param(encoded({**FIELDS, "secret": b"s" * 31}), id="a short secret"),
        pytest.param(encoded({**FIELDS, "root_sha256": "A" * 64}), id="a hash in upper case"),
        pytest.param(encoded({"secret": b"s" * 32}), id="no hashes: blind trust"),
        pytest.param(encoded(msgpack.packb(FIELDS) + b"\0"), id="a trailing byte"),
        pytest.param(encoded(b"\x81\xa1x" + b"\x91" * 900), id="deep nesting"),
        pytest.param(encoded({**FIELDS, "x": b"x" * 2000}), id="endless"),
        pytest.param(encoded([1, 2]), id="not a map"),
    ],
)
def test_a_mangled_token_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        parse_token(text)
    assert refusal.value.detail == "this is not an enrolment token; copy all of it, from fh1. to its end"


def test_the_hub_can_name_a_token_without_knowing_its_secret() -> None:
    assert TOKEN.id == token_id(hashlib.sha256(TOKEN.secret).digest())
    assert TOKEN.id != OTHER_TOKEN.id
    assert TOKEN.secret.hex() not in TOKEN.id
    assert TOKEN.secret_hash.hex()[:32] != TOKEN.id


@dataclass(frozen=True)
class Exchange:
    """Who proves what: the proof is made for one set of these and shown with another."""

    token: Token = TOKEN
    signer: str = DEVICE
    device_id: str = DEVICE
    nonce: bytes = NONCE

    def request(self) -> RegisterRequest:
        proof, mac = prove(self.token, key(self.signer), self.device_id, self.nonce)
        return RegisterRequest(
            token_id=self.token.id,
            device_id=self.device_id,
            public_key=public(self.signer),
            nonce=self.nonce,
            proof=proof,
            mac=mac,
        )


def test_a_device_that_knows_the_token_and_holds_the_key_is_proven() -> None:
    assert is_proven(TOKEN.secret_hash, Exchange().request())


GOOD = Exchange()
REQUEST = GOOD.request()


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(msgspec.structs.replace(REQUEST, device_id="shop-13"), id="shown for another id"),
        pytest.param(
            msgspec.structs.replace(REQUEST, public_key=public("shop-13")), id="shown for another key"
        ),
        pytest.param(
            msgspec.structs.replace(REQUEST, nonce=b"m" * 32), id="shown for another nonce: a replay"
        ),
        pytest.param(replace(GOOD, token=OTHER_TOKEN).request(), id="made with another token"),
        pytest.param(
            msgspec.structs.replace(REQUEST, proof=replace(GOOD, signer="shop-13").request().proof),
            id="the key's proof is by another key",
        ),
        pytest.param(
            msgspec.structs.replace(REQUEST, mac=replace(GOOD, token=OTHER_TOKEN).request().mac),
            id="the MAC is by another token",
        ),
        pytest.param(msgspec.structs.replace(REQUEST, mac=b""), id="no MAC"),
        pytest.param(msgspec.structs.replace(REQUEST, proof=None), id="no proof"),
        pytest.param(msgspec.structs.replace(REQUEST, proof=b"\0" * 64), id="a proof of zeroes"),
        pytest.param(msgspec.structs.replace(REQUEST, mac=REQUEST.mac[:16]), id="half a MAC"),
    ],
)
def test_a_proof_is_refused_when(request_: RegisterRequest) -> None:
    assert not is_proven(TOKEN.secret_hash, request_)


def test_the_secret_never_travels() -> None:
    sent = msgspec.msgpack.encode(REQUEST)
    assert TOKEN.secret not in sent
    assert TOKEN.secret_hash not in sent
