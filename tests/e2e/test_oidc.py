"""People at a real OpenID provider: a hub as it is started by hand, real redirects, and attackers with real tokens."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import httpx2
import pytest
from joserfc.jwk import RSAKey

from tests.e2e.fleet import Fleet, until
from tests.e2e.oidc.provider import AUDIENCE, CLIENT, PACKAGE, PROGRAM, RealProvider, Visitor
from tests.hub.access.issuer import part, signed
from tests.support import npm

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


class Site:
    """The hub and its provider."""

    def __init__(self, fleet: Fleet, provider: RealProvider) -> None:
        self.fleet = fleet
        self.provider = provider
        self.url = fleet.url

    def ask(self, token: str, path: str = "/session") -> httpx2.Response:
        return httpx2.get(self.url + path, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """What an ID token of Ada says."""
        now = int(time.time())
        found = {
            "iss": self.provider.issuer,
            "aud": CLIENT,
            "sub": "ada",
            "iat": now,
            "exp": now + 300,
            "groups": ["fleet-admins"],
        }
        return {**found, **changes}

    def token(self, **changes: Any) -> str:
        """A token by the provider's own key, with whatever it would not say in it."""
        return signed(self.claims(**changes), self.provider.key, "RS256")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    packages = npm.installed("oidc-provider", PACKAGE)
    fleet = Fleet(tmp_path_factory.mktemp("hub"))
    folder = tmp_path_factory.mktemp("provider")
    provider = RealProvider(folder, packages, f"http://127.0.0.1:{fleet.http_port}")
    secret = folder / "secret"
    secret.write_text(provider.secret)
    secret.chmod(0o600)
    fleet.options = (
        *("--oidc-issuer", provider.issuer, "--oidc-client-id", CLIENT, "--oidc-secret-file", str(secret)),
        *("--oidc-audience", AUDIENCE, "--oidc-scopes", "openid profile groups"),
        *("--oidc-roles", "fleet-admins=admin,fleet-viewers=viewer"),
    )
    try:
        fleet.start_hub()
        yield Site(fleet, provider)
    finally:
        fleet.close()
        provider.stop()


@pytest.fixture
def visitor(site: Site) -> Iterator[Visitor]:
    made = Visitor(site.url)
    yield made
    made.close()


def test_somebody_logs_in_changes_something_and_logs_out_here_and_there(site: Site, visitor: Visitor) -> None:
    answer = visitor.log_in("ada")
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"] == f"{site.url}/"
    assert visitor.follow(answer).status_code == 200
    assert "Compliance of" in visitor.get("/compliance/report?format=html").text
    who = visitor.get("/session").json()
    assert (who["actor"], who["name"], who["role"]) == (
        f"oidc:{site.provider.issuer}#ada",
        "Ada Lovelace",
        "admin",
    )
    changed = {"X-CSRF-Token": who["csrf_token"]}
    assert visitor.post("/api-keys", {}, json={"name": "by-ada"}).status_code == 403
    assert visitor.post("/api-keys", changed, json={"name": "by-ada"}).status_code == 201
    onward = visitor.post("/logout", changed).json()["redirect"]
    hint = parse_qs(urlsplit(onward).query)["id_token_hint"][0]
    assert site.ask(hint).status_code == 401  # it stays in the history of the browser
    page = visitor.get(onward)
    assert page.status_code == 200, page.text
    done = visitor.follow(visitor.submit(page, {}))
    assert done.status_code == 200 and str(done.url).startswith(site.url), done.text
    assert visitor.get("/session").status_code == 401


def test_somebody_without_a_role_is_told_so_and_has_no_session(visitor: Visitor) -> None:
    answer = visitor.log_in("eve")
    assert answer.status_code == 403 and "Eve has no role here" in answer.text
    assert visitor.get("/session").status_code == 401


def test_a_programs_access_token_opens_what_its_groups_open(site: Site) -> None:
    token = site.provider.token_of_a_program()
    who = site.ask(token).json()
    assert (who["actor"], who["role"]) == (f"oidc:{site.provider.issuer}#{PROGRAM}", "viewer")
    assert site.ask(token, "/devices").status_code == 200
    assert site.ask(token, "/api-keys").status_code == 403


def changed_query(url: str, **changes: str) -> str:
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return urlunsplit(parts._replace(query=urlencode({**query, **changes})))


def nonce_mismatch(visitor: Visitor, other: Visitor) -> httpx2.Response:
    start = changed_query(visitor.get("/login").headers["location"], nonce="of-another-login")
    return visitor.get(visitor.until_callback("ada", start))


def state_mismatch(visitor: Visitor, other: Visitor) -> httpx2.Response:
    back = visitor.until_callback("ada", visitor.get("/login").headers["location"])
    return visitor.get(changed_query(back, state="of-another-login"))


def code_replayed(visitor: Visitor, other: Visitor) -> httpx2.Response:
    """By the same browser, with the cookie of its login still there: as after a step back."""
    back = visitor.until_callback("ada", visitor.get("/login").headers["location"])
    cookies = visitor.cookies()
    assert visitor.get(back).status_code == 303
    visitor.set_cookies(cookies)
    return visitor.get(back)


def code_of_somebody_else(visitor: Visitor, other: Visitor) -> httpx2.Response:
    """A code that was caught, put into a login of the catcher's own: the verifier is not the code's."""
    caught = other.until_callback("ada", other.get("/login").headers["location"])
    back = visitor.until_callback("ada", visitor.get("/login").headers["location"])
    return visitor.get(changed_query(back, code=parse_qs(urlsplit(caught).query)["code"][0]))


def answer_of_another_issuer(visitor: Visitor, other: Visitor) -> httpx2.Response:
    back = visitor.until_callback("ada", visitor.get("/login").headers["location"])
    return visitor.get(changed_query(back, iss="https://evil.example"))


def answer_in_another_browser(visitor: Visitor, other: Visitor) -> httpx2.Response:
    """Somebody is made to log in as the attacker."""
    return visitor.get(other.until_callback("ada", other.get("/login").headers["location"]))


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        pytest.param(nonce_mismatch, "of another login", id="nonce-mismatch"),
        pytest.param(state_mismatch, "to another login", id="state-mismatch"),
        pytest.param(code_replayed, "does not take the code", id="code-replay"),
        pytest.param(code_of_somebody_else, "does not take the code", id="code-injection"),
        pytest.param(answer_of_another_issuer, "not from the identity provider", id="mix-up"),
        pytest.param(answer_in_another_browser, "has not begun to log in", id="login-csrf"),
    ],
)
def test_an_answer_that_is_not_this_logins_opens_no_session(
    site: Site, visitor: Visitor, attempt: Callable[[Visitor, Visitor], httpx2.Response], said: str
) -> None:
    other = Visitor(site.url)
    answer = attempt(visitor, other)
    other.close()
    assert answer.status_code == 401 and said in answer.text, answer.text
    assert [text.partition("=")[0] for text in answer.headers.get_list("set-cookie")] == ["flaghoist-login"]


def alg_confusion(site: Site) -> str:
    said = f"{part({'alg': 'HS256', 'kid': site.provider.key.kid})}.{part(site.claims())}"
    mac = hmac.digest(site.provider.key.as_pem(private=False), said.encode(), "sha256")
    return f"{said}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def by_another_key(site: Site) -> str:
    return signed(site.claims(), RSAKey.generate_key(2048, {"kid": str(site.provider.key.kid)}), "RS256")


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        pytest.param(lambda site: site.token(exp=int(time.time()) - 61), "oidc_expired", id="expired"),
        pytest.param(lambda site: site.token(aud="other"), "oidc_audience", id="wrong-audience"),
        pytest.param(lambda site: site.token(iss="http://127.0.0.1:1"), "oidc_issuer", id="wrong-issuer"),
        pytest.param(
            lambda site: f"{part({'alg': 'none'})}.{part(site.claims())}.", "oidc_algorithm", id="alg-none"
        ),
        pytest.param(alg_confusion, "oidc_algorithm", id="alg-confusion"),
        pytest.param(by_another_key, "oidc_signature", id="another-key"),
    ],
)
def test_a_token_that_is_not_good_opens_nothing(site: Site, make: Callable[[Site], str], rule: str) -> None:
    assert site.ask(site.token()).status_code == 200
    answer = site.ask(make(site))
    assert (answer.status_code, answer.json()["rule"]) == (401, rule)


def test_a_rotated_key_is_taken_and_the_former_no_longer(site: Site) -> None:
    former = site.token()
    assert site.ask(former).status_code == 200
    site.provider.rotate()
    # At once, or half a minute after the hub last asked for keys.
    until("the new key is taken", lambda: site.ask(site.token()).status_code == 200, seconds=120, every=1)
    answer = site.ask(former)
    assert (answer.status_code, answer.json()["rule"]) == (401, "oidc_key")
