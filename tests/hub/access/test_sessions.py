"""Sessions: how each ends, and what a request with a session's cookie must show besides."""

from __future__ import annotations

import base64
import string
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from hub.access.browser import csrf_token
from hub.errors import Unauthorised
from tests.hub.access.browsing import ORIGIN, Browser
from tests.hub.access.issuer import ISSUER, Issuer, gate_of
from tests.hub.world import World

SESSION = "__Host-flaghoist-session"
CHANGE = ("POST", "/devices/enrolment-tokens")
TOKEN = {"role": "kiosk", "segment": "canary"}


@pytest.fixture
def ada(browser: Browser) -> Browser:
    """A browser in which an admin has logged in."""
    assert browser.log_in(groups="fleet-admins").status_code == 303
    return browser


def is_in(browser: Browser) -> bool:
    answer = browser.request("GET", "/devices")
    if answer.status_code != 200:
        assert (answer.status_code, answer.json()["rule"]) == (401, "session"), answer.text
    return bool(answer.status_code == 200)


def test_a_session_ends_when_it_was_not_used_for_its_idle_time(ada: Browser) -> None:
    for _ in range(3):
        ada.world.now += 29 * 60_000
        assert is_in(ada)
    ada.world.now += 30 * 60_000
    assert not is_in(ada)


def test_a_session_ends_at_the_end_of_its_life_however_much_it_is_used(ada: Browser) -> None:
    for _ in range(24):
        assert is_in(ada)
        ada.world.now += 20 * 60_000
    assert not is_in(ada)


def test_using_a_session_is_written_down_once_a_minute_at_most(ada: Browser) -> None:
    def seen_at() -> Any:
        return ada.request("GET", "/sessions").json()["items"][0]["seen_at"]

    before = seen_at()
    ada.world.now += 59_000
    assert seen_at() == before
    ada.world.now += 1_000
    seen_at()  # is answered in the moment of being written down
    assert seen_at() > before


def respelled(token: str) -> str:
    """The same token in other letters: the last one of a signature has bits that nobody reads."""
    signature = token.rpartition(".")[2]

    def read(text: str) -> bytes:
        return base64.urlsafe_b64decode(text + "==")

    others = (signature[:-1] + sign for sign in string.ascii_letters if sign != signature[-1])
    return token.removesuffix(signature) + next(text for text in others if read(text) == read(signature))


def test_logging_out_by_a_script_ends_the_session_and_says_where_it_ends_at_the_provider(
    ada: Browser,
) -> None:
    cookies = dict(ada.cookies)
    answer = ada.request("POST", "/logout", ada.csrf)
    where = urlsplit(answer.json()["redirect"])
    assert f"{where.scheme}://{where.netloc}{where.path}" == f"{ISSUER}/logout"
    said = parse_qs(where.query)
    assert said["post_logout_redirect_uri"] == ["https://hub.example/logout"]
    assert said["client_id"] == ["flaghoist"] and said["id_token_hint"][0].count(".") == 2
    assert ada.cookies == {}
    ada.cookies = cookies
    assert not is_in(ada)
    (hint,) = said["id_token_hint"]
    for token in (hint, respelled(hint)):
        left = ada.request("GET", "/devices", {"Authorization": f"Bearer {token}"})
        assert (left.status_code, left.json()["rule"]) == (401, "oidc_session")
    (ended,) = ada.told("session.ended")
    (opened,) = ada.told("session.opened")
    assert (ended["reason"], ended["actor"]) == ("logged out", opened["actor"])
    assert ended["body"] == {"session": opened["body"]["session"], "of": opened["actor"]}


def test_an_id_token_that_outlives_its_session_opens_nothing_either(browser: Browser, issuer: Issuer) -> None:
    began = browser.world.now // 1000
    said = {"exp": began + 86_400, "groups": "fleet-admins"}
    browser.log_in(**said)
    token = issuer.token(began, nonce=browser.asked["nonce"], **said)
    browser.world.now += 9 * 3_600_000
    Browser(browser.world, issuer).log_in(sub="eve")
    refused = browser.request("GET", "/devices", {"Authorization": f"Bearer {token}"})
    assert (refused.status_code, refused.json()["rule"]) == (401, "oidc_session")


def test_logging_out_by_the_page_sends_the_form_to_the_provider(ada: Browser) -> None:
    page = ada.request("GET", "/logout")
    assert "Ada Lovelace" in page.text
    assert "form-action 'self' https://id.example;" in page.headers["content-security-policy"]
    token = csrf_token(ada.cookies[SESSION])
    assert token in page.text and ada.cookies[SESSION] not in page.text
    # What a form on a page without referrers says of its origin.
    answer = ada.request("POST", "/logout", {"Origin": "null"}, data={"csrf_token": token})
    assert answer.status_code == 303 and answer.headers["location"].startswith(f"{ISSUER}/logout?")
    assert ada.cookies == {}
    assert "not logged in" in ada.request("GET", "/logout").text


@pytest.mark.parametrize("form", [{}, {"csrf_token": "0" * 64}, {"csrf_token": "\xff"}])
def test_a_form_without_the_token_logs_nobody_out(ada: Browser, form: dict[str, str]) -> None:
    answer = ada.request("POST", "/logout", data=form)
    assert (answer.status_code, answer.json()["rule"]) == (403, "csrf_token")
    assert is_in(ada)


def test_where_the_provider_offers_no_log_out_the_hub_says_its_own_page(browser: Browser) -> None:
    del browser.issuer.metadata["end_session_endpoint"]
    browser.log_in()
    assert browser.request("POST", "/logout", browser.csrf).json() == {
        "redirect": "https://hub.example/logout"
    }


def test_a_key_and_a_bearer_token_have_no_session_to_end(shop: World, issuer: Issuer) -> None:
    for headers in ({}, {"Authorization": f"Bearer {issuer.token(shop.now // 1000)}"}):
        answer = shop.client.post("/logout", headers=headers)
        assert (answer.status_code, answer.json()["rule"]) == (409, "no_session")


def test_an_admin_lists_sessions_and_ends_one(ada: Browser, shop: World, issuer: Issuer) -> None:
    other = Browser(shop, issuer)
    other.log_in(sub="eve", name="Eve", groups="fleet-operators")
    listed = [item for item in ada.request("GET", "/sessions").json()["items"] if item["name"] == "Eve"]
    assert [(item["actor"], item["role"]) for item in listed] == [(f"oidc:{ISSUER}#eve", "operator")]
    path = f"/sessions/{listed[0]['id']}"
    assert other.request("DELETE", path, other.csrf).status_code == 403
    assert ada.request("DELETE", path, ada.csrf).status_code == 204
    assert not is_in(other) and is_in(ada)
    assert ada.request("DELETE", path, ada.csrf).status_code == 404
    assert [event["reason"] for event in ada.told("session.ended")] == ["revoked"]


def test_logging_in_again_makes_another_session_and_ends_the_former(ada: Browser) -> None:
    former = dict(ada.cookies)
    ada.log_in(groups="fleet-admins")
    assert ada.cookies[SESSION] != former[SESSION] and is_in(ada)
    ada.cookies = former
    assert not is_in(ada)
    assert [event["reason"] for event in ada.told("session.ended")] == ["logged in again"]


def test_a_text_that_was_put_into_the_browser_before_the_login_is_no_session_after_it(
    browser: Browser,
) -> None:
    browser.cookies[SESSION] = "planted"
    browser.log_in()
    assert browser.cookies[SESSION] != "planted"


def test_a_person_has_twenty_sessions_and_the_oldest_ends(shop: World, issuer: Issuer) -> None:
    browsers = []
    for _ in range(21):
        shop.now += 1
        browsers.append(Browser(shop, issuer))
        browsers[-1].log_in(sub="many")
    assert not is_in(browsers[0]) and is_in(browsers[1]) and is_in(browsers[20])


def test_other_options_about_roles_end_every_session(ada: Browser, shop: World, issuer: Issuer) -> None:
    gate = gate_of(shop.store, issuer, "https://hub.example", lambda: shop.now)
    text = ada.cookies[SESSION]
    assert gate.sessions.find(text, "").caller.role == "admin"
    settings = msgspec.structs.replace(gate.provider.settings, roles={"fleet-admins": "viewer"})
    changed = gate_of(shop.store, issuer, "https://hub.example", lambda: shop.now, settings)
    with pytest.raises(Unauthorised, match="has ended"):
        changed.sessions.find(text, "")
    for opened in (gate, changed):
        opened.close()


@pytest.mark.parametrize(
    ("headers", "rule"),
    [
        pytest.param({}, None, id="the-hubs-own-page"),
        pytest.param({"Sec-Fetch-Site": ""}, None, id="old-browser"),
        pytest.param({"Origin": ""}, None, id="no-origin"),
        pytest.param({"Origin": "null"}, None, id="page-without-referrers"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, "csrf_origin", id="another-site"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, "csrf_origin", id="another-host-of-the-domain"),
        pytest.param({"Sec-Fetch-Site": "none"}, "csrf_origin", id="no-page-at-all"),
        pytest.param({"Origin": "https://evil.example"}, "csrf_origin", id="origin-of-another"),
        pytest.param(
            {"Sec-Fetch-Site": "", "Origin": "https://evil.example"}, "csrf_origin", id="old-browser-elsewhere"
        ),
        pytest.param({"Sec-Fetch-Site": "", "Origin": "null"}, "csrf_origin", id="old-browser-in-a-sandbox"),
        pytest.param({"Sec-Fetch-Site": "", "Origin": ""}, "csrf_origin", id="says-neither"),
        pytest.param(
            {"Sec-Fetch-Site": "", "Origin": f"{ORIGIN}.evil.example"}, "csrf_origin", id="origin-that-begins-so"
        ),
        pytest.param({"Sec-Fetch-Site": "", "Origin": "http://hub.example"}, "csrf_origin", id="without-tls"),
        pytest.param({"X-CSRF-Token": ""}, "csrf_token", id="no-token"),
        pytest.param({"X-CSRF-Token": "0" * 64}, "csrf_token", id="wrong-token"),
    ],
)  # fmt: skip
def test_a_change_by_a_cookie_must_come_from_the_hubs_own_page_and_carry_the_token(
    ada: Browser, headers: dict[str, str], rule: str | None
) -> None:
    answer = ada.request(*CHANGE, {**ada.csrf, **headers}, json=TOKEN)
    if rule is None:
        assert answer.status_code == 201, answer.text
    else:
        assert (answer.status_code, answer.json()["rule"]) == (403, rule)
        assert ada.told("token.created") == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 200, id="the-hubs-own-page"),
        pytest.param({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200, id="address-typed"),
        pytest.param({"Sec-Fetch-Site": ""}, 200, id="old-browser"),
        pytest.param(
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
            200,
            id="link-from-elsewhere",
        ),
        pytest.param({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, 403, id="script-elsewhere"),
        pytest.param(
            {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403, id="script-on-another-host"
        ),
        pytest.param(
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
            403,
            id="frame-elsewhere",
        ),
    ],
)
def test_reading_by_a_cookie_is_for_pages_of_the_hub_and_for_links(
    ada: Browser, headers: dict[str, str], status: int
) -> None:
    assert ada.request("GET", "/devices", headers).status_code == status


def test_a_request_with_a_token_of_its_own_is_by_that_whatever_cookie_comes_along(
    ada: Browser, shop: World
) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Authorization": f"Bearer {shop.token}"}
    assert ada.request(*CHANGE, headers, json=TOKEN).status_code == 201
    assert ada.told("token.created")[0]["actor"] == "admin"
    assert ada.request("GET", "/devices", {"Authorization": "Bearer wrong"}).status_code == 401


def test_a_cookie_that_comes_twice_is_none(ada: Browser) -> None:
    text = ada.cookies[SESSION]
    ada.cookies[f"{SESSION}=other; {SESSION}"] = text
    answer = ada.request("GET", "/devices")
    assert (answer.status_code, answer.json()["rule"]) == (401, "no_token")


def test_an_answer_is_given_again_to_the_session_that_asked_and_to_no_page_elsewhere(ada: Browser) -> None:
    headers = {**ada.csrf, "Idempotency-Key": "once"}
    first = ada.request(*CHANGE, headers, json=TOKEN)
    again = ada.request(*CHANGE, headers, json=TOKEN)
    assert first.status_code == 201 and again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    for more in ({"X-CSRF-Token": ""}, {"Sec-Fetch-Site": "cross-site"}):
        assert ada.request(*CHANGE, {**headers, **more}, json=TOKEN).status_code == 403
    assert len(ada.told("token.created")) == 1
