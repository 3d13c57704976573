"""Logging in with a browser: what goes right, and each way to be refused as a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from hub.access.oidc.flow import challenge
from hub.access.oidc.http import Answer
from hub.inline import style_sources
from tests.hub.access.browsing import Browser
from tests.hub.access.issuer import CLIENT, ISSUER, STRANGER, SUBJECT
from tests.hub.world import World

SESSION = "__Host-flaghoist-session"
LOGIN = "__Host-flaghoist-login"
ACTOR = f"oidc:{ISSUER}#{SUBJECT}"


def test_a_login_asks_the_provider_with_pkce_state_and_nonce(browser: Browser) -> None:
    browser.begin()
    where = urlsplit(browser.answers[-1].headers["location"])
    assert f"{where.scheme}://{where.netloc}{where.path}" == f"{ISSUER}/auth"
    asked = browser.asked
    assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT)
    assert asked["redirect_uri"] == "https://hub.example/login/callback"
    assert asked["code_challenge_method"] == "S256"
    code = browser.code()
    browser.come_back(code=code, state=asked["state"])
    (form,) = browser.issuer.forms
    assert challenge(form["code_verifier"]) == asked["code_challenge"]
    assert len({form["code_verifier"], asked["state"], asked["nonce"]}) == 3
    assert (form["grant_type"], form["code"], form["redirect_uri"]) == (
        "authorization_code",
        code,
        asked["redirect_uri"],
    )


def test_the_secret_goes_to_the_token_endpoint_by_basic_and_each_half_encoded(browser: Browser) -> None:
    browser.log_in()
    assert browser.issuer.headers == [{"Authorization": "Basic ZmxhZ2hvaXN0OnMzY3JldCUzQSUyNQ=="}]
    assert "client_secret" not in browser.issuer.forms[0]


def test_the_secret_goes_in_the_form_where_the_provider_wants_it_there(browser: Browser) -> None:
    browser.issuer.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    browser.log_in()
    assert browser.issuer.forms[0]["client_secret"] == "s3cret:%" and browser.issuer.headers == [{}]


def test_whoever_logs_in_has_their_role_and_is_named_in_the_audit(browser: Browser) -> None:
    assert browser.log_in(groups=["fleet-viewers", "fleet-admins", "other"]).status_code == 303
    who = browser.request("GET", "/session").json()
    assert (who["actor"], who["name"], who["role"]) == (ACTOR, "Ada Lovelace", "admin")
    made = browser.request("POST", "/api-keys", browser.csrf, json={"name": "ci"})
    assert made.status_code == 201, made.text
    assert browser.told("api_key.created")[-1]["actor"] == ACTOR
    (opened,) = browser.told("session.opened")
    assert opened["actor"] == ACTOR
    assert opened["body"] == {
        "session": who["session"],
        "iss": ISSUER,
        "sub": SUBJECT,
        "name": "Ada Lovelace",
        "role": "admin",
    }


def test_cookies_are_out_of_reach_of_scripts_plain_http_and_other_sites(browser: Browser) -> None:
    browser.log_in()
    set_by = [text for answer in browser.answers for text in answer.headers.get_list("set-cookie")]
    assert len(set_by) == 3
    for text in set_by:
        assert text.startswith((f"{SESSION}=", f"{LOGIN}="))
        attributes = {part.strip().lower() for part in text.split(";")[1:]}
        assert {"httponly", "secure", "samesite=lax", "path=/"} <= attributes
        assert not any(part.startswith("domain") for part in attributes)
    assert list(browser.cookies) == [SESSION]


def test_neither_the_database_nor_the_events_have_the_text_of_a_session_or_the_id_token(
    browser: Browser, shop: World
) -> None:
    browser.log_in()
    with shop.store.read() as tx:
        for table in ("sessions", "events", "people"):
            for row in tx.all(f"SELECT * FROM {table}"):
                assert browser.cookies[SESSION] not in str(dict(row)) and "eyJ" not in str(dict(row))


@pytest.mark.parametrize(
    ("back_to", "expected"),
    [
        pytest.param("", "/", id="nowhere"),
        pytest.param("?next=/devices%3Frole%3Dkiosk", "/devices?role=kiosk", id="a-path"),
        pytest.param("?next=https://evil.example/", "/", id="elsewhere"),
        pytest.param("?next=//evil.example/", "/", id="elsewhere-without-scheme"),
        pytest.param("?next=/%5Cevil.example/", "/", id="backslash"),
        pytest.param("?next=/a%0d%0aX:1", "/", id="two-lines"),
    ],
)
def test_a_login_comes_back_to_a_path_of_the_hub_and_nowhere_else(
    browser: Browser, back_to: str, expected: str
) -> None:
    state = browser.begin(f"/login{back_to}")
    answer = browser.come_back(code=browser.code(), state=state)
    assert answer.headers["location"] == f"https://hub.example{expected}"


def wrong_state(browser: Browser) -> Any:
    browser.begin()
    return browser.come_back(code=browser.code(), state="x" * 43)


def no_login_begun(browser: Browser) -> Any:
    state = browser.begin()
    browser.cookies.clear()
    return browser.come_back(code=browser.code(), state=state)


def forged_cookie(browser: Browser) -> Any:
    state = browser.begin()
    browser.cookies[LOGIN] = browser.cookies[LOGIN][:-4] + "AAAA"
    return browser.come_back(code=browser.code(), state=state)


def too_late(browser: Browser) -> Any:
    state = browser.begin()
    browser.world.now += 600_000
    return browser.come_back(code=browser.code(), state=state)


def code_spent(browser: Browser) -> Any:
    state = browser.begin()
    code = browser.code()
    del browser.issuer.codes[code]
    return browser.come_back(code=code, state=state)


def login_replayed(browser: Browser) -> Any:
    """The whole answer of the provider once more, even with a code that is good."""
    state = browser.begin()
    cookies = dict(browser.cookies)
    assert browser.come_back(code=browser.code(), state=state).status_code == 303
    browser.cookies = cookies
    return browser.come_back(code=browser.code(), state=state)


def provider_refused(browser: Browser) -> Any:
    return browser.come_back(error="access_denied<script>", state=browser.begin())


def no_code(browser: Browser) -> Any:
    return browser.come_back(state=browser.begin())


def of_another_issuer(browser: Browser) -> Any:
    state = browser.begin()
    return browser.come_back(code=browser.code(), state=state, iss="https://evil.example")


def without_the_issuer_that_was_promised(browser: Browser) -> Any:
    browser.issuer.metadata["authorization_response_iss_parameter_supported"] = True
    state = browser.begin()
    return browser.come_back(code=browser.code(), state=state)


def by_a_stranger(browser: Browser) -> Any:
    browser.issuer.signing = STRANGER
    return browser.log_in()


def away(browser: Browser) -> Any:
    state = browser.begin()
    browser.issuer.is_away = True
    return browser.come_back(code=browser.code(), state=state)


@pytest.mark.parametrize(
    ("attempt", "status", "rule"),
    [
        pytest.param(wrong_state, 401, "login_state", id="state-mismatch"),
        pytest.param(no_login_begun, 401, "login_state", id="in-a-browser-that-began-no-login"),
        pytest.param(forged_cookie, 401, "login_state", id="forged-cookie"),
        pytest.param(too_late, 401, "login_expired", id="too-late"),
        pytest.param(code_spent, 401, "oidc_code", id="code-replayed"),
        pytest.param(login_replayed, 401, "login_used", id="login-replayed"),
        pytest.param(provider_refused, 401, "oidc_denied", id="provider-says-no"),
        pytest.param(no_code, 401, "oidc_denied", id="no-code"),
        pytest.param(of_another_issuer, 401, "oidc_issuer", id="answer-of-another-issuer"),
        pytest.param(without_the_issuer_that_was_promised, 401, "oidc_issuer", id="answer-without-issuer"),
        pytest.param(by_a_stranger, 401, "oidc_signature", id="id-token-by-a-stranger"),
        pytest.param(lambda b: b.log_in(nonce="other"), 401, "oidc_nonce", id="nonce-mismatch"),
        pytest.param(lambda b: b.log_in(nonce=None), 401, "oidc_nonce", id="no-nonce"),
        pytest.param(lambda b: b.log_in(aud="https://hub.example/api"), 401, "oidc_audience", id="for-the-api"),
        pytest.param(lambda b: b.log_in(aud="other"), 401, "oidc_audience", id="wrong-audience"),
        pytest.param(lambda b: b.log_in(iss="https://evil.example"), 401, "oidc_issuer", id="wrong-issuer"),
        pytest.param(lambda b: b.log_in(exp=1), 401, "oidc_expired", id="expired"),
        pytest.param(lambda b: b.log_in(groups=["staff"]), 403, "oidc_role", id="no-role-here"),
        pytest.param(lambda b: b.log_in(groups=None), 403, "oidc_role", id="no-claim"),
        pytest.param(away, 503, "oidc_provider", id="provider-away"),
    ],
)  # fmt: skip
def test_a_login_that_is_refused_opens_no_session_and_stands_in_the_audit(
    browser: Browser, attempt: Callable[[Browser], Any], status: int, rule: str
) -> None:
    answer = attempt(browser)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8" and "<script" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert f"style-src {style_sources(answer.text)};" in policy and "'sha256-" in policy
    assert SESSION not in browser.cookies and LOGIN not in browser.cookies
    assert browser.request("GET", "/devices").status_code == 401
    (refused,) = browser.told("login.refused")
    assert (refused["body"]["rule"], refused["actor"]) == (rule, "stranger")


def test_refused_logins_fill_no_disk_and_the_next_minute_tells_how_many_more_there_were(
    browser: Browser, shop: World
) -> None:
    for _ in range(25):
        wrong_state(browser)
    assert len(browser.told("login.refused")) == 20
    shop.now += 60_000
    wrong_state(browser)
    assert browser.told("login.refused")[-1]["body"]["untold"] == 5


def test_a_wrong_client_secret_is_told_apart_from_a_spent_code(browser: Browser) -> None:
    state = browser.begin()
    browser.issuer.token_answer = Answer(401, b'{"error": "invalid_client"}')
    assert "(invalid_client)" in browser.come_back(code="any", state=state).text
    state = browser.begin()
    browser.issuer.token_answer = Answer(400, b"<html>")
    assert "(no reason)" in browser.come_back(code="any", state=state).text


def test_a_role_that_the_id_token_does_not_have_is_asked_of_the_userinfo_endpoint(browser: Browser) -> None:
    browser.issuer.metadata["userinfo_endpoint"] = f"{ISSUER}/userinfo"
    browser.issuer.userinfo = {"sub": SUBJECT, "groups": "fleet-operators", "name": "Someone"}
    assert browser.log_in(groups=None, name=None).status_code == 303
    who = browser.request("GET", "/session").json()
    assert (who["role"], who["name"]) == ("operator", "Someone")


def test_user_info_of_somebody_else_is_refused(browser: Browser) -> None:
    browser.issuer.metadata["userinfo_endpoint"] = f"{ISSUER}/userinfo"
    browser.issuer.userinfo = {"sub": "other", "groups": "fleet-admins"}
    assert browser.log_in(groups=None).status_code == 401
    assert browser.told("login.refused")[0]["body"]["rule"] == "oidc_subject"


def test_a_person_is_written_down_once_for_each_name_and_told_apart_by_subject(browser: Browser) -> None:
    for name in ("Grace Hopper", "Grace Hopper", "Amazing Grace"):
        browser.log_in(sub="grace", name=name)
    browser.log_in(sub="other", name="Amazing Grace")
    seen = [
        (event["actor"], event["body"]["before"], event["body"]["name"])
        for event in browser.told("person.recognised")
    ]
    assert seen == [
        (f"oidc:{ISSUER}#grace", None, "Grace Hopper"),
        (f"oidc:{ISSUER}#grace", "Grace Hopper", "Amazing Grace"),
        (f"oidc:{ISSUER}#other", None, "Amazing Grace"),
    ]


def test_where_there_is_no_provider_nobody_logs_in(world: World) -> None:
    for path in ("/login", "/login/callback", "/logout", "/sessions"):
        answer = world.client.get(path, follow_redirects=False)
        assert (answer.status_code, answer.json()["rule"]) == (404, "no_provider"), path
    cookie = {"Cookie": f"{SESSION}=x", "Authorization": ""}
    assert world.client.get("/devices", headers=cookie).status_code == 401
