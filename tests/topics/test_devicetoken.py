"""Device tokens: who may call, until when, and what is not a token at all."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.topics.kit import DEVICE, FLEET, NOW, key, public
from topics import devicetoken
from topics.devicetoken import LEEWAY, LIFETIME, Claims, audience, make, subject, verify
from topics.errors import DecodeError

AT = NOW // 1000


def claims(**changes: Any) -> Claims:
    fields: dict[str, Any] = {
        "sub": DEVICE, "aud": audience(FLEET), "iat": AT, "exp": AT + LIFETIME, "jti": "01J0000000"
    }  # fmt: skip
    return Claims(**{**fields, **changes})


def part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


HEADER = part(b'{"alg":"EdDSA","typ":"JWT"}')
BODY = json.dumps({"sub": DEVICE, "aud": "flaghoist:acme", "iat": AT, "exp": AT + 60, "jti": "1"}).encode()
NESTED = b'{"x":' + b"[" * 1390
TOKEN = make(key(DEVICE), claims())


def signed(header: str, body: bytes) -> str:
    """Return a token by the device's own key over any header and body."""
    text = f"{header}.{part(body)}"
    return f"{text}.{part(key(DEVICE).sign(text.encode()).signature)}"


def test_a_token_says_whose_it_is_and_verifies() -> None:
    assert subject(TOKEN) == DEVICE
    assert verify(TOKEN, public(DEVICE), FLEET, AT) == claims()


def test_any_jwt_library_would_read_it() -> None:
    header, body, signature = (base64.urlsafe_b64decode(piece + "==") for piece in TOKEN.split("."))
    assert json.loads(header) == {"alg": "EdDSA", "typ": "JWT"}
    assert json.loads(body)["sub"] == DEVICE
    key(DEVICE).verify_key.verify(TOKEN.rpartition(".")[0].encode(), signature)


@pytest.mark.parametrize(
    ("changes", "at", "valid"),
    [
        pytest.param({}, AT, True, id="fresh"),
        pytest.param({}, AT - LEEWAY, True, id="the device's clock is a minute ahead"),
        pytest.param({}, AT - LEEWAY - 1, False, id="the device's clock is further ahead"),
        pytest.param({}, AT + LIFETIME + LEEWAY - 1, True, id="within the leeway after its end"),
        pytest.param({}, AT + LIFETIME + LEEWAY, False, id="over"),
        pytest.param({"exp": AT + LIFETIME + 1}, AT, False, id="made to last too long"),
        pytest.param({"exp": AT - LIFETIME}, AT, False, id="over before it began"),
        pytest.param({"iat": 0, "exp": 60}, AT, False, id="made by a clock that stands in 1970"),
        pytest.param({"aud": audience("umbrella")}, AT, False, id="for another fleet"),
        pytest.param({"aud": FLEET}, AT, False, id="for another service"),
    ],
)
def test_when_a_token_is_valid(changes: dict[str, Any], at: int, valid: bool) -> None:
    token = make(key(DEVICE), claims(**changes))
    if valid:
        assert verify(token, public(DEVICE), FLEET, at).sub == DEVICE
        return
    with pytest.raises(DecodeError, match="invalid"):
        verify(token, public(DEVICE), FLEET, at)


NOT_SIGNED = [
    pytest.param(make(key("shop-13"), claims()), id="signed by another device"),
    pytest.param(TOKEN[:-86] + part(b"\0" * 64), id="a signature of zeroes"),
    pytest.param(TOKEN[:-86] + part(b"short"), id="a short signature"),
    pytest.param(TOKEN.rpartition(".")[0] + ".", id="no signature"),
    pytest.param(f"{HEADER}.{part(BODY)}.{TOKEN.rpartition('.')[2]}", id="another body under the signature"),
]


@pytest.mark.parametrize("token", NOT_SIGNED)
def test_a_token_that_this_device_did_not_sign(token: str) -> None:
    with pytest.raises(DecodeError, match="not signed by this device's key"):
        verify(token, public(DEVICE), FLEET, AT)


NOT_TOKENS = [
    pytest.param("", id="empty"),
    pytest.param("..", id="three empty parts"),
    pytest.param("a.b", id="two parts"),
    pytest.param("a.b.c.d", id="four parts"),
    pytest.param("é.b.c", id="a letter outside ASCII"),
    pytest.param("\udc80.b.c", id="a lone surrogate"),
    pytest.param("a" * 3000, id="endless"),
    pytest.param(f"{HEADER}.{part(b'x' * 1600)}.{part(b'x' * 64)}", id="endless body"),
    pytest.param(signed(HEADER, BODY[:-1] + b', "x": "' + b"x" * 1500 + b'"}'), id="endless, and well signed"),
    pytest.param(f"{HEADER}.!!!.{part(b'x' * 64)}", id="not base64"),
    pytest.param(f"{HEADER}.A.{part(b'x' * 64)}", id="a base64 of one letter"),
    pytest.param(signed(part(b'{"alg":"none"}'), BODY), id="algorithm none"),
    pytest.param(signed(part(b'{"alg":"HS256","typ":"JWT"}'), BODY), id="a symmetric algorithm"),
    pytest.param(signed(part(b'{"typ":"JWT","alg":"EdDSA"}'), BODY), id="the right header in another order"),
    pytest.param(signed(HEADER, b""), id="no claims"),
    pytest.param(signed(HEADER, b"[]"), id="claims that are no object"),
    pytest.param(signed(HEADER, b"\xff"), id="claims that are not UTF-8"),
    pytest.param(signed(HEADER, BODY.replace(b"shop-12", b"SHOP-12")), id="a subject that is no device id"),
    pytest.param(signed(HEADER, BODY.replace(b"shop-12", b"svc.hoister")), id="a service as the subject"),
    pytest.param(signed(HEADER, BODY.replace(b'"1"', b'"\\u0000"')), id="NUL in the token's id"),
    pytest.param(signed(HEADER, BODY.replace(b'"1"', b'""')), id="no id"),
    pytest.param(signed(HEADER, BODY.replace(str(AT).encode(), b"1e400")), id="a time that is no number"),
    pytest.param(signed(HEADER, BODY.replace(str(AT).encode(), b"9" * 400)), id="a time of 400 digits"),
    pytest.param(signed(HEADER, BODY.replace(b'"sub"', b'"zub"')), id="no subject"),
    pytest.param(f"{HEADER}.{part(b'[' * 1400)}.{part(b'x' * 64)}", id="brackets to exhaust the parser"),
    pytest.param(f"{HEADER}.{part(NESTED)}.{part(b'x' * 64)}", id="brackets in a claim nobody reads"),
]  # fmt: skip


@pytest.mark.parametrize("token", NOT_TOKENS)
def test_what_is_not_a_token(token: str) -> None:
    """It is refused before a key is looked up, and by nothing else than our own error."""
    with pytest.raises(DecodeError, match="invalid"):
        subject(token)
    with pytest.raises(DecodeError, match="invalid"):
        verify(token, public(DEVICE), FLEET, AT)


def test_the_longest_token_of_ours_is_within_the_cap() -> None:
    longest = make(key(DEVICE), claims(sub="d" * 63, aud="a" * 128, jti="j" * 64))
    assert len(longest) < devicetoken.LIMIT
    assert subject(longest) == "d" * 63
