"""Every route with every role, whichever way a person comes in: what docs/reference/access.md says holds."""

from __future__ import annotations

import pytest

from hub.caller import RANKS
from tests.hub.access.browsing import Browser
from tests.hub.access.issuer import Issuer
from tests.hub.access_page import may
from tests.hub.test_api import filled, handlers
from tests.hub.world import World

ROLES = [*RANKS, "none"]
ENDLESS = ("/events",)
"""A stream does not end by itself."""
LAST = ("POST", "/logout")
"""Ends the session that the others are tried with."""


def is_open(status: int) -> bool:
    """Whether a guard let the request pass: what a handler makes of an empty body is another matter."""
    return status not in (401, 403)


def expected(access: str, role: str) -> bool:
    return role in RANKS and may(role, access)


def walked(world: World) -> list[tuple[str, str, str]]:
    found = [
        (method, filled(path), access)
        for (method, path), access in handlers(world).items()
        if access != "public" and path not in ENDLESS
    ]
    assert len(found) > 60
    return sorted(found, key=lambda one: one[:2] == LAST)


@pytest.mark.parametrize("role", ROLES)
def test_a_bearer_opens_what_the_role_opens(shop: World, issuer: Issuer, role: str) -> None:
    headers = {"Authorization": f"Bearer {issuer.token(shop.now // 1000, groups=f'fleet-{role}s')}"}
    for method, path, access in walked(shop):
        status = shop.client.request(method, path, headers=headers).status_code
        assert is_open(status) == expected(access, role), f"{method} {path} answered {role} with {status}"


@pytest.mark.parametrize("role", ROLES)
def test_a_session_opens_what_the_role_opens(browser: Browser, role: str) -> None:
    browser.log_in(groups=f"fleet-{role}s")
    token = browser.csrf if role in RANKS else {"X-CSRF-Token": "0" * 64}
    for method, path, access in walked(browser.world):
        status = browser.request(method, path, token).status_code
        assert is_open(status) == expected(access, role), f"{method} {path} answered {role} with {status}"


def test_no_route_that_changes_something_is_open_to_a_cookie_alone(browser: Browser) -> None:
    browser.log_in(groups="fleet-admins")
    for method, path, _ in walked(browser.world):
        if method not in ("GET", "HEAD"):
            answer = browser.request(method, path, {"Sec-Fetch-Site": "cross-site"})
            assert (answer.status_code, answer.json()["rule"]) == (403, "csrf_origin"), path
            answer = browser.request(method, path)
            assert (answer.status_code, answer.json()["rule"]) == (403, "csrf_token"), path
