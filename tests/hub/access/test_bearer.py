"""Tokens of the provider on the API, and the provider's keys: kept, rotated, and asked for no oftener than needed."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc.jwk import ECKey

from hub.access.oidc.http import Answer
from hub.access.oidc.keyring import AGAIN_S, FRESH_S, MOST_S, STALE_S
from tests.hub.access.browsing import Browser
from tests.hub.access.issuer import (
    AUDIENCE,
    EC,
    ISSUER,
    STRANGER,
    Issuer,
    claims,
    jwks,
    signed,
)
from tests.hub.world import World

NEW = ECKey.generate_key("P-256", {"kid": "ec-2"})
DISCOVERY = "/.well-known/openid-configuration"


def ask(shop: World, token: str, path: str = "/devices") -> Any:
    return shop.client.get(path, headers={"Authorization": f"Bearer {token}"})


def rule_of(answer: Any) -> str:
    return "" if answer.status_code == 200 else str(answer.json()["rule"])


def test_a_bearer_is_who_the_provider_says_and_stands_so_in_the_audit(browser: Browser, shop: World) -> None:
    token = browser.issuer.token(shop.now // 1000, groups="fleet-admins", sub="bea", name="Bea")
    who = ask(shop, token, "/session").json()
    assert who == {
        "actor": f"oidc:{ISSUER}#bea",
        "name": f"oidc:{ISSUER}#bea",
        "role": "admin",
        "session": None,
        "csrf_token": None,
    }
    made = shop.client.post("/api-keys", json={"name": "ci"}, headers={"Authorization": f"Bearer {token}"})
    assert made.status_code == 201
    assert browser.told("api_key.created")[0]["actor"] == who["actor"]
    assert [event["body"]["name"] for event in browser.told("person.recognised")] == ["Bea"]


def test_an_access_token_for_the_api_is_taken(shop: World, issuer: Issuer) -> None:
    token = signed(claims(shop.now // 1000, aud=AUDIENCE, azp="cli"), typ="at+jwt")
    assert ask(shop, token).status_code == 200


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        pytest.param({"exp": 1}, "oidc_expired", id="expired"),
        pytest.param({"aud": "other"}, "oidc_audience", id="wrong-audience"),
        pytest.param({"iss": "https://evil.example"}, "oidc_issuer", id="wrong-issuer"),
        pytest.param({"groups": ["staff"]}, "oidc_role", id="no-role-here"),
        pytest.param({"groups": {"fleet-admins": True}}, "oidc_role", id="roles-of-another-shape"),
        pytest.param({"groups": "admin"}, "oidc_role", id="the-name-of-our-role"),
    ],
)
def test_a_bearer_that_is_refused_changes_nothing(
    browser: Browser, shop: World, changes: dict[str, Any], rule: str
) -> None:
    answer = ask(shop, browser.issuer.token(shop.now // 1000, sub="nobody-yet", **changes))
    assert answer.status_code == (403 if rule == "oidc_role" else 401)
    assert rule_of(answer) == rule
    assert browser.told("person.recognised") == []


def test_keys_are_asked_for_once_and_again_when_they_are_no_longer_fresh(shop: World, issuer: Issuer) -> None:
    for _ in range(3):
        assert ask(shop, issuer.token(shop.now // 1000)).status_code == 200
    assert issuer.asked == [DISCOVERY, "/jwks"]
    shop.now += FRESH_S * 1000
    ask(shop, issuer.token(shop.now // 1000))
    assert issuer.asked == [DISCOVERY, "/jwks"] * 2


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        pytest.param(0, 60, id="not-at-all"),
        pytest.param(900, 900, id="a-quarter-of-an-hour"),
        pytest.param(10**9, MOST_S, id="for-ever"),
    ],
)
def test_keys_are_fresh_for_as_long_as_the_provider_says_within_bounds(
    shop: World, issuer: Issuer, said: int, kept: int
) -> None:
    issuer.max_age = said
    ask(shop, issuer.token(shop.now // 1000))
    shop.now += kept * 1000 - 1000
    ask(shop, issuer.token(shop.now // 1000))
    assert issuer.asked == [DISCOVERY, "/jwks"]
    shop.now += 1000
    ask(shop, issuer.token(shop.now // 1000))
    assert issuer.asked == [DISCOVERY, "/jwks"] * 2


def test_a_rotated_key_is_believed_at_its_first_token_and_the_former_one_no_longer(
    shop: World, issuer: Issuer
) -> None:
    former = issuer.token(shop.now // 1000)
    assert ask(shop, former).status_code == 200
    issuer.keys, issuer.signing = [NEW], NEW
    shop.now += AGAIN_S * 1000
    assert ask(shop, issuer.token(shop.now // 1000)).status_code == 200
    assert issuer.asked == [DISCOVERY, "/jwks"] * 2
    assert rule_of(ask(shop, former)) == "oidc_key"


def test_unknown_keys_make_the_hub_ask_once_in_half_a_minute_however_many_come(
    shop: World, issuer: Issuer
) -> None:
    ask(shop, issuer.token(shop.now // 1000))
    shop.now += AGAIN_S * 1000
    for number in range(20):
        token = signed(claims(shop.now // 1000), STRANGER, kid=f"made-up-{number}")
        assert rule_of(ask(shop, token)) == "oidc_key"
    assert issuer.asked == [DISCOVERY, "/jwks"] * 2
    assert ask(shop, issuer.token(shop.now // 1000)).status_code == 200


def test_a_provider_that_is_away_locks_nobody_out_for_a_day(shop: World, issuer: Issuer) -> None:
    ask(shop, issuer.token(shop.now // 1000))
    issuer.is_away = True
    shop.now += (FRESH_S + STALE_S) * 1000 - 1000
    assert ask(shop, issuer.token(shop.now // 1000)).status_code == 200
    shop.now += 1000
    answer = ask(shop, issuer.token(shop.now // 1000))
    assert (answer.status_code, rule_of(answer)) == (503, "oidc_provider")
    assert answer.headers["retry-after"] == str(AGAIN_S)
    assert ask(shop, shop.token).status_code == 200  # keys go on


def test_a_provider_that_is_away_is_asked_once_in_half_a_minute(shop: World, issuer: Issuer) -> None:
    shop.now += STALE_S * 1000
    issuer.is_away = True
    for _ in range(5):
        assert rule_of(ask(shop, issuer.token(shop.now // 1000))) == "oidc_provider"
    assert issuer.asked == [DISCOVERY]
    issuer.is_away = False
    shop.now += AGAIN_S * 1000
    assert ask(shop, issuer.token(shop.now // 1000)).status_code == 200


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"issuer": "https://evil.example"}, id="of-another-issuer"),
        pytest.param({"token_endpoint": "http://id.example/token"}, id="secret-over-plain-http"),
        pytest.param({"jwks_uri": "ftp://id.example/jwks"}, id="keys-by-ftp"),
        pytest.param({"jwks_uri": ""}, id="no-keys"),
        pytest.param({"authorization_endpoint": None}, id="no-text"),
    ],
)
def test_a_discovery_document_that_is_not_the_providers_is_not_believed(
    shop: World, issuer: Issuer, metadata: dict[str, Any]
) -> None:
    shop.now += STALE_S * 1000
    issuer.metadata |= metadata
    assert rule_of(ask(shop, issuer.token(shop.now // 1000))) == "oidc_provider"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(200, b"<html>"), id="no-json"),
        pytest.param(Answer(500, b"{}"), id="an-error"),
        pytest.param(Answer(200, b'{"keys": []}'), id="no-key"),
        pytest.param(Answer(200, b"[" * 100_000), id="deep-nonsense"),
    ],
)
def test_a_set_of_keys_that_cannot_be_read_leaves_the_former_one(
    shop: World, issuer: Issuer, answer: Answer
) -> None:
    ask(shop, issuer.token(shop.now // 1000))
    issuer.jwks_answer = answer
    shop.now += FRESH_S * 1000
    assert ask(shop, issuer.token(shop.now // 1000)).status_code == 200


def test_a_device_comes_in_by_its_own_token_beside_people(shop: World) -> None:
    """A device's token names no issuer: with one it would be the provider's to vouch for."""
    assert rule_of(ask(shop, signed({"sub": "shop-1", "aud": "x"}))) == "device_token"


def test_the_set_of_the_provider_has_public_halves_only() -> None:
    assert "d" not in jwks(EC)["keys"][0]
