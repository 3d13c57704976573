"""Options about people: what a start refuses, and what a claim gives."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest

from hub.access import browser
from hub.access.browser import Site
from hub.access.oidc import flow, roles
from hub.access.oidc.roles import claim_at, person_of, role_of
from hub.access.settings import PeopleSettings, oidc
from hub.errors import SetupError

GOOD: dict[str, Any] = {
    "oidc_issuer": "https://id.example",
    "oidc_client_id": "flaghoist",
    "oidc_roles": "admins=admin, CN=Shop Staff=viewer,",
}


def test_good_options_name_a_provider() -> None:
    found = oidc(PeopleSettings(**GOOD), "https://hub.example")
    assert found is not None
    assert found.roles == {"admins": "admin", "CN=Shop Staff": "viewer"}
    assert (found.client_secret, found.scopes, found.role_claim) == ("", "openid profile email", "groups")


def test_without_an_issuer_there_is_no_provider() -> None:
    assert oidc(PeopleSettings(), "") is None


@pytest.mark.parametrize(
    ("changes", "public_http", "said"),
    [
        pytest.param({"oidc_issuer": "id.example"}, "", "not the URL of an issuer", id="no-url"),
        pytest.param({"oidc_issuer": "http://id.example"}, "", "not the URL of an issuer", id="plain-http"),
        pytest.param({"oidc_issuer": "https://id.example?x"}, "", "not the URL of an issuer", id="query"),
        pytest.param({"oidc_issuer": "https://[id"}, "", "not the URL of an issuer", id="broken-host"),
        pytest.param({}, "http://hub.example", "needs https", id="sessions-over-plain-http"),
        pytest.param({"oidc_client_id": ""}, "", "needs --oidc-client-id", id="no-client"),
        pytest.param({"oidc_roles": ""}, "", "--oidc-roles", id="no-roles"),
        pytest.param({"oidc_roles": "admins"}, "", "maps no value", id="no-role"),
        pytest.param({"oidc_roles": "=admin"}, "", "maps no value", id="no-value"),
        pytest.param({"oidc_roles": "admins=root"}, "", "maps no value", id="no-such-role"),
        pytest.param({"oidc_scopes": "profile"}, "", "must have openid", id="no-openid"),
        pytest.param({"oidc_secret_file": "/nowhere"}, "", "cannot be read", id="no-such-file"),
    ],
)
def test_a_start_refuses_in_one_sentence(changes: dict[str, Any], public_http: str, said: str) -> None:
    with pytest.raises(SetupError, match=said):
        oidc(PeopleSettings(**{**GOOD, **changes}), public_http)


@pytest.mark.parametrize("url", ["http://localhost:9000", "http://127.0.0.1:9000", "http://[::1]:9000"])
def test_plain_http_is_taken_on_this_machine_alone(url: str) -> None:
    assert oidc(PeopleSettings(**{**GOOD, "oidc_issuer": url}), "http://127.0.0.1:8080") is not None


def test_a_secret_is_read_from_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("s3cret\n")
    settings = PeopleSettings(**GOOD, oidc_secret_file=str(path))
    path.chmod(0o640)
    with pytest.raises(SetupError, match="chmod 600"):
        oidc(settings, "")
    path.chmod(0o600)
    found = oidc(settings, "")
    assert found is not None and found.client_secret == "s3cret"
    for nothing in (b"\n", b"\xff\n", b"two\nlines\n"):
        path.write_bytes(nothing)
        with pytest.raises(SetupError, match="holds no client secret"):
            oidc(settings, "")


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        pytest.param({"groups": "a"}, "viewer", id="text"),
        pytest.param({"groups": ["x", "a", "b"]}, "admin", id="highest-of-a-list"),
        pytest.param({"groups": ["b", "a"]}, "admin", id="in-any-order"),
        pytest.param({"groups": []}, None, id="empty-list"),
        pytest.param({"groups": "b a"}, None, id="no-list-in-a-text"),
        pytest.param({"groups": ["A"]}, None, id="spelled-otherwise"),
        pytest.param({"groups": [["a"], 1, None]}, None, id="of-another-shape"),
        pytest.param({}, None, id="no-claim"),
    ],
)
def test_the_highest_role_of_a_claim_counts(claims: dict[str, Any], role: str | None) -> None:
    assert role_of(claims, "groups", {"a": "viewer", "b": "admin"}) == role


def test_dots_lead_into_a_claim_unless_one_has_the_whole_name() -> None:
    nested = {"realm_access": {"roles": ["a"]}, "realm_access.roles": ["b"]}
    assert claim_at(nested, "realm_access.roles") == ["b"]
    del nested["realm_access.roles"]
    assert claim_at(nested, "realm_access.roles") == ["a"]
    assert claim_at(nested, "realm_access.roles.more") is None


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        pytest.param({"name": "Ada", "email": "a@b"}, "Ada", id="name"),
        pytest.param({"name": " ", "preferred_username": "ada"}, "ada", id="user-name"),
        pytest.param({"name": 1, "email": "a@b"}, "a@b", id="mail"),
        pytest.param({}, "1", id="subject"),
        pytest.param({"name": "A\u202eda\n  L"}, "A da L", id="what-turns-a-line-around"),
        pytest.param({"name": "x" * 500}, "x" * 128, id="long"),
    ],
)
def test_people_are_called_what_can_stand_in_a_line(claims: dict[str, Any], name: str) -> None:
    assert person_of({"iss": "i", "sub": "1", **claims}).name == name


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        pytest.param("https://Hub.example/fleet", "https://hub.example", id="prefix"),
        pytest.param("https://hub.example:443", "https://hub.example", id="usual-port"),
        pytest.param("https://hub.example:8443", "https://hub.example:8443", id="another-port"),
        pytest.param("http://[::1]:80", "http://[::1]", id="ipv6"),
    ],
)
def test_the_origin_is_spelled_as_browsers_do(url: str, origin: str) -> None:
    assert Site(url).origin == origin


def test_cookies_without_tls_have_no_prefix_that_asks_for_it() -> None:
    cookie = Site("http://127.0.0.1:8080").cookie("session", "x", 60)
    assert (cookie.key, cookie.secure) == ("flaghoist-session", False)


@pytest.mark.parametrize("module", [browser, flow, roles])
def test_examples_are_true(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0
