"""A browser at a hub of a test: keeps cookies as it is told, and says of each request what browsers say."""

from __future__ import annotations

import itertools
import json
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.hub.access.issuer import Issuer, claims
from tests.hub.world import World

ORIGIN = "https://hub.example"
_codes = itertools.count(1)


class Browser:
    """Somebody's browser. `asked` is the query that the last `/login` sent it to the provider with."""

    def __init__(self, world: World, issuer: Issuer) -> None:
        self.world = world
        self.issuer = issuer
        self.cookies: dict[str, str] = {}
        self.asked: dict[str, str] = {}
        self.answers: list[Any] = []
        self._since = self._last_event()

    def told(self, kind: str) -> list[dict[str, Any]]:
        """Events of this kind since the browser was opened, their bodies read."""
        with self.world.store.read() as tx:
            rows = tx.all(
                "SELECT * FROM events WHERE kind = :kind AND id > :since ORDER BY id",
                {"kind": kind, "since": self._since},
            )
        return [{**dict(row), "body": json.loads(row["body"])} for row in rows]

    def _last_event(self) -> int:
        with self.world.store.read() as tx:
            row = tx.one("SELECT max(id) AS id FROM events")
        return int(row["id"] or 0) if row else 0

    def request(self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
        """Ask as a page of the hub would, unless `headers` say otherwise; a value of "" leaves a header out."""
        said = {
            "Sec-Fetch-Site": "same-origin",
            "Origin": ORIGIN if method != "GET" else "",
            **(headers or {}),
        }
        said = {name: value for name, value in said.items() if value}
        said |= {"Authorization": said.get("Authorization", "")}
        if self.cookies:
            said["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = self.world.client.request(method, path, headers=said, follow_redirects=False, **more)
        for text in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(text).items():
                self.cookies.pop(name, None)
                if morsel["max-age"] != "0":
                    self.cookies[name] = morsel.value
        self.answers.append(answer)
        return answer

    def begin(self, path: str = "/login") -> str:
        """Begin to log in; returns the state."""
        answer = self.request("GET", path)
        assert answer.status_code == 303, answer.text
        query = parse_qs(urlsplit(answer.headers["location"]).query)
        self.asked = {name: values[0] for name, values in query.items()}
        return self.asked["state"]

    def code(self, **changes: Any) -> str:
        """Have the provider make a code for the login that was begun."""
        code = f"code-{next(_codes)}"
        said = {"nonce": self.asked["nonce"], **changes}
        self.issuer.codes[code] = claims(self.world.now // 1000, **said)
        return code

    def come_back(self, **query: str) -> Any:
        """Be sent back by the provider, from its own page."""
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        return self.request("GET", "/login/callback", headers, params=query)

    def log_in(self, **changes: Any) -> Any:
        """Log in with these claims; returns the last answer."""
        state = self.begin()
        return self.come_back(code=self.code(**changes), state=state)

    @property
    def csrf(self) -> dict[str, str]:
        """The header that a change needs."""
        return {"X-CSRF-Token": self.request("GET", "/session").json()["csrf_token"]}
