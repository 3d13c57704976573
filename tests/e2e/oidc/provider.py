"""npm's oidc-provider, certified by the OpenID foundation, as a process of its own on a port that it keeps."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin

import httpx2
from joserfc.jwk import RSAKey

from tests.e2e.fleet import until
from tests.support.ports import held_port

PACKAGE: Final = "oidc-provider@9.13"
CLIENT: Final = "flaghoist"
PROGRAM: Final = "ci"
AUDIENCE: Final = "urn:flaghoist:api"
PEOPLE: Final = {
    "ada": {"name": "Ada Lovelace", "groups": ["staff", "fleet-admins"]},
    "eve": {"name": "Eve", "groups": ["staff"]},
    PROGRAM: {"groups": ["fleet-viewers"]},
}


class RealProvider:
    """A provider that is found at `issuer`; `key` is the one that it signs with at present."""

    def __init__(self, folder: Path, packages: Path, hub_url: str) -> None:
        self._folder = folder
        self._hub_url = hub_url
        self._port = held_port()
        self._script = folder / "provider.mjs"
        # The package is found beside the script that imports it.
        (folder / "node_modules").symlink_to(packages / "node_modules")
        self._script.write_text((Path(__file__).parent / "provider.mjs").read_text())
        self.issuer = f"http://127.0.0.1:{self._port}"
        self.secret = secrets.token_urlsafe(24)
        self._process: subprocess.Popen[bytes] | None = None
        self.key = self.rotate()

    def rotate(self) -> RSAKey:
        """Start anew, with one new key and none of the former."""
        self.stop()
        self.key = RSAKey.generate_key(2048, {"kid": secrets.token_hex(4), "use": "sig", "alg": "RS256"})
        said = {
            "issuer": self.issuer,
            "port": self._port,
            "jwks": {"keys": [self.key.as_dict(private=True)]},
            "clients": self._clients(),
            "people": PEOPLE,
            "audience": AUDIENCE,
        }
        with (self._folder / "provider.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["node", self._script], env=os.environ | {"OIDC": json.dumps(said)}, stdout=log, stderr=log
            )
        until("the provider answers", self._answers)
        return self.key

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def token_of_a_program(self) -> str:
        """An access token by client credentials: how a pipeline comes in."""
        form = {"grant_type": "client_credentials", "resource": AUDIENCE}
        answer = httpx2.post(f"{self.issuer}/token", data=form, auth=(PROGRAM, self.secret), timeout=30)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def _clients(self) -> list[dict[str, Any]]:
        return [
            {
                "client_id": CLIENT,
                "client_secret": self.secret,
                "redirect_uris": [f"{self._hub_url}/login/callback"],
                "post_logout_redirect_uris": [f"{self._hub_url}/logout"],
            },
            {
                "client_id": PROGRAM,
                "client_secret": self.secret,
                "grant_types": ["client_credentials"],
                "redirect_uris": [],
                "response_types": [],
            },
        ]

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "provider.log").read_text()[-3000:]
        try:
            with urllib.request.urlopen(
                f"{self.issuer}/.well-known/openid-configuration", timeout=5
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class Visitor:
    """Somebody's browser: follows redirects, keeps cookies, fills in forms."""

    def __init__(self, hub_url: str) -> None:
        self.hub_url = hub_url
        self._client = httpx2.Client(follow_redirects=False, timeout=60)

    def get(self, url: str) -> httpx2.Response:
        """Ask without following a redirect; a path is the hub's."""
        return self._client.get(urljoin(self.hub_url, url))

    def post(self, path: str, headers: dict[str, str], **more: Any) -> httpx2.Response:
        """Post to the hub as a page of its own."""
        said = {"Origin": self.hub_url, "Sec-Fetch-Site": "same-origin", **headers}
        return self._client.post(urljoin(self.hub_url, path), headers=said, **more)

    def until_callback(self, person: str, start: str) -> str:
        """Log in at the provider as `person`, from the address `start` on; returns where it sends the browser back."""
        url = start
        for _ in range(20):
            answer = self._client.get(url)
            while answer.is_redirect:
                url = urljoin(url, answer.headers["location"])
                if url.startswith(f"{self.hub_url}/login/callback"):
                    return url
                answer = self._client.get(url)
            answer = self.submit(answer, {"login": person, "password": "any"})
            url = urljoin(str(answer.url), answer.headers["location"])
        raise AssertionError(f"the provider never sent {person} back")

    def submit(self, page: httpx2.Response, fields: dict[str, str]) -> httpx2.Response:
        """Fill in the one form of a page and send it."""
        form = _Form()
        form.feed(page.text)
        assert form.action, page.text
        given = {name: fields.get(name, value) for name, value in form.fields.items()}
        return self._client.post(urljoin(str(page.url), form.action), data=given)

    def follow(self, answer: httpx2.Response) -> httpx2.Response:
        """Follow redirects to their end."""
        while answer.is_redirect:
            answer = self._client.get(urljoin(str(answer.url), answer.headers["location"]))
        return answer

    def log_in(self, person: str) -> httpx2.Response:
        """Log in at the hub; returns its answer to the callback."""
        return self.get(self.until_callback(person, self.get("/login").headers["location"]))

    def cookies(self) -> httpx2.Cookies:
        """Return what it keeps, as it is now."""
        return httpx2.Cookies(self._client.cookies)

    def set_cookies(self, cookies: httpx2.Cookies) -> None:
        """Keep these and no others."""
        self._client.cookies = cookies

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


class _Form(HTMLParser):
    """The action and the fields of the first form."""

    def __init__(self) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take in a form, and what belongs to it."""
        found = dict(attrs)
        if tag == "form" and not self.action:
            self.action = found.get("action") or ""
        elif tag == "input" and re.fullmatch(r"\w+", found.get("name") or ""):
            self.fields[str(found["name"])] = found.get("value") or ""
