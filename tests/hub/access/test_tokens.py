"""Which tokens of a provider are believed: each way to be wrong is a row."""

from __future__ import annotations

import base64
import hmac
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey

from hub.access.oidc import tokens
from hub.access.oidc.tokens import Expected, UnknownKey, signing_keys, verify
from hub.errors import Unauthorised
from tests.hub.access.issuer import (
    AUDIENCE,
    CLIENT,
    EC,
    ED,
    ISSUER,
    RSA,
    STRANGER,
    SUBJECT,
    claims,
    jwks,
    part,
    signed,
)

NOW = 1_795_000_000
EXPECTED = Expected(ISSUER, CLIENT, (AUDIENCE,))
KEYS = signing_keys(jwks(RSA, EC, ED))


def unsigned(algorithm: str) -> str:
    return f"{part({'alg': algorithm, 'kid': 'rsa-1'})}.{part(claims(NOW))}."


def by_public_key() -> str:
    """Signed by HMAC, with the public key for a secret: a checker that lets the token choose takes it."""
    said = f"{part({'alg': 'HS256', 'kid': 'rsa-1'})}.{part(claims(NOW))}"
    mac = hmac.digest(RSA.as_pem(private=False), said.encode(), "sha256")
    return f"{said}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def resigned_payload(**changes: Any) -> str:
    head, _, signature = signed(claims(NOW)).split(".")
    return f"{head}.{part(claims(NOW, **changes))}.{signature}"


def with_own_key() -> str:
    return signed(claims(NOW), STRANGER, jwk=STRANGER.as_dict(private=False), kid="mine")


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        pytest.param(RSA, "RS256", id="RS256"),
        pytest.param(RSA, "PS512", id="PS512"),
        pytest.param(EC, "ES256", id="ES256"),
        pytest.param(ED, "Ed25519", id="Ed25519"),
    ],
)
def test_a_token_by_a_key_of_the_set_is_believed(key: Any, algorithm: str) -> None:
    assert verify(signed(claims(NOW), key, algorithm), KEYS, EXPECTED, NOW)["sub"] == SUBJECT


@pytest.mark.filterwarnings(
    "ignore:EdDSA"
)  # the library's word on the algorithm's name; providers still use it
def test_a_token_that_calls_ed25519_by_its_former_name_is_believed() -> None:
    assert verify(signed(claims(NOW), ED, "EdDSA"), KEYS, EXPECTED, NOW)["sub"] == SUBJECT


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(signed(claims(NOW, aud=[CLIENT])), id="audience-as-list"),
        pytest.param(signed(claims(NOW, aud=[CLIENT, "other"], azp=CLIENT)), id="for-others-too-at-our-wish"),
        pytest.param(signed(claims(NOW, aud=AUDIENCE, azp="spa"), typ="at+jwt"), id="access-token"),
        pytest.param(
            signed(claims(NOW, aud=[AUDIENCE, "other"], azp="spa")), id="access-token-for-others-too"
        ),
        pytest.param(signed(claims(NOW, exp=NOW - 59)), id="expired-within-leeway"),
        pytest.param(signed(claims(NOW, iat=NOW + 60, nbf=NOW + 60)), id="young-within-leeway"),
        pytest.param(signed(claims(NOW, iat=None)), id="without-iat"),
        pytest.param(signed(claims(NOW, exp=NOW + 0.5)), id="fraction-of-a-second"),
        pytest.param(signed(claims(NOW), typ="JWT", x5t="x", other=1), id="further-headers"),
    ],
)
def test_a_good_token_is_believed(token: str) -> None:
    assert verify(token, KEYS, EXPECTED, NOW)["iss"] == ISSUER


@pytest.mark.parametrize(
    ("token", "rule"),
    [
        pytest.param("", "oidc_format", id="empty"),
        pytest.param("a.b.c", "oidc_format", id="no-token"),
        pytest.param(f"{part([1])}.{part({})}.", "oidc_format", id="header-is-a-list"),
        pytest.param("[" * 9000 + ".a.b", "oidc_format", id="deep-nonsense"),
        pytest.param(signed(claims(NOW, groups=["x" * 17_000])), "oidc_format", id="too-long"),
        pytest.param(signed(claims(NOW), crit=["exp"]), "oidc_format", id="critical-header-unknown"),
        pytest.param(unsigned("none"), "oidc_algorithm", id="alg-none"),
        pytest.param(unsigned("None"), "oidc_algorithm", id="alg-none-spelled-otherwise"),
        pytest.param(by_public_key(), "oidc_algorithm", id="alg-confusion"),
        pytest.param(unsigned("RS256"), "oidc_signature", id="signature-left-out"),
        pytest.param(signed(claims(NOW), STRANGER), "oidc_signature", id="another-key-under-the-id"),
        pytest.param(resigned_payload(groups=["fleet-admins"]), "oidc_signature", id="changed-claims"),
        pytest.param(signed(claims(NOW), kid="ec-2"), "oidc_key", id="unknown-key"),
        pytest.param(with_own_key(), "oidc_key", id="brings-its-own-key"),
        pytest.param(signed(claims(NOW), RSA, "RS256", kid="ec-1"), "oidc_key", id="id-of-a-key-of-another-kind"),
        pytest.param(signed(claims(NOW), typ="logout+jwt"), "oidc_kind", id="logout-token"),
        pytest.param(signed(claims(NOW, events={})), "oidc_kind", id="logout-token-without-its-type"),
        pytest.param(signed(claims(NOW), typ="dpop+jwt"), "oidc_kind", id="proof-of-possession"),
        pytest.param(signed(claims(NOW, iss="https://evil.example")), "oidc_issuer", id="wrong-issuer"),
        pytest.param(signed(claims(NOW, iss=ISSUER + "/")), "oidc_issuer", id="issuer-with-a-slash-more"),
        pytest.param(signed(claims(NOW, iss=None)), "oidc_issuer", id="no-issuer"),
        pytest.param(signed(claims(NOW, aud="other")), "oidc_audience", id="wrong-audience"),
        pytest.param(signed(claims(NOW, aud=None)), "oidc_audience", id="no-audience"),
        pytest.param(signed(claims(NOW, aud=[{}, 1])), "oidc_audience", id="audience-of-no-text"),
        pytest.param(signed(claims(NOW, aud=[CLIENT, "other"])), "oidc_audience", id="for-others-too"),
        pytest.param(
            signed(claims(NOW, aud=[CLIENT, "other"], azp="other")), "oidc_audience", id="at-anothers-wish"
        ),
        pytest.param(signed(claims(NOW, exp=NOW - 60)), "oidc_expired", id="expired"),
        pytest.param(signed(claims(NOW, exp=None)), "oidc_format", id="no-expiry"),
        pytest.param(signed(claims(NOW, exp=float("nan"))), "oidc_format", id="expiry-is-no-number"),
        pytest.param(signed(claims(NOW, exp="never")), "oidc_format", id="expiry-is-a-text"),
        pytest.param(signed(claims(NOW, exp=True)), "oidc_format", id="expiry-is-true"),
        pytest.param(signed(claims(NOW, nbf=NOW + 61)), "oidc_not_yet", id="not-yet-valid"),
        pytest.param(signed(claims(NOW, iat=NOW + 61)), "oidc_not_yet", id="issued-in-the-future"),
        pytest.param(signed(claims(NOW, sub=None)), "oidc_subject", id="nobody"),
        pytest.param(signed(claims(NOW, sub="")), "oidc_subject", id="empty-subject"),
        pytest.param(signed(claims(NOW, sub="a\nb")), "oidc_subject", id="subject-of-two-lines"),
        pytest.param(signed(claims(NOW, sub="x" * 256)), "oidc_subject", id="subject-too-long"),
    ],
)  # fmt: skip
def test_a_token_is_refused_by_the_rule_that_it_breaks(token: str, rule: str) -> None:
    with pytest.raises(Unauthorised) as refused:
        verify(token, KEYS, EXPECTED, NOW)
    assert refused.value.rule == rule


def test_a_token_without_the_id_of_its_key_is_believed_when_one_key_alone_can_be_meant() -> None:
    token = signed(claims(NOW), kid=None)
    assert verify(token, KEYS, EXPECTED, NOW)["sub"] == SUBJECT
    with pytest.raises(UnknownKey):
        verify(token, signing_keys(jwks(EC, ECKey.generate_key("P-256"))), EXPECTED, NOW)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({**EC.as_dict(private=False), "use": "enc"}, id="for-encryption"),
        pytest.param({**EC.as_dict(private=False), "key_ops": ["sign"]}, id="not-to-verify-by"),
        pytest.param({**EC.as_dict(private=False), "key_ops": 5}, id="operations-of-no-list"),
        pytest.param({**EC.as_dict(private=False), "x": "AAAA"}, id="no-point-of-the-curve"),
        pytest.param({"kty": "oct", "kid": "ec-1", "k": "c2VjcmV0"}, id="a-secret"),
        pytest.param({"kty": "EC"}, id="empty"),
        pytest.param("key", id="a-text"),
    ],
)
def test_what_is_no_key_for_signatures_is_none_of_the_set(entry: Any) -> None:
    assert [key.kid for key in signing_keys({"keys": [entry, RSA.as_dict(private=False)]})] == ["rsa-1"]


@pytest.mark.filterwarnings("ignore:Key size")  # the library only warns of it
def test_a_key_that_is_too_short_is_none_of_the_set() -> None:
    short = RSAKey.generate_key(1024, {"kid": "short"})
    assert signing_keys(jwks(short)) == []


def test_a_set_without_keys_has_none() -> None:
    assert signing_keys({}) == signing_keys({"keys": "none"}) == []


def test_a_key_that_names_its_algorithm_is_for_no_other() -> None:
    keys = signing_keys(jwks(RSA, alg="RS256"))
    assert verify(signed(claims(NOW), RSA, "RS256"), keys, EXPECTED, NOW)
    with pytest.raises(UnknownKey):
        verify(signed(claims(NOW), RSA, "PS256"), keys, EXPECTED, NOW)


def test_the_issuer_that_a_token_names_is_read_without_believing_it() -> None:
    assert tokens.issuer_of(signed(claims(NOW), STRANGER)) == ISSUER
    for other in ("a.b.c", "a.W10.c", f"a.{part({'iss': 1})}.c", f"a.{part({})}.c", "a." + "W" * 9001 + ".c"):
        assert tokens.issuer_of(other) is None
