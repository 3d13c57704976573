"""Logging in and out with a browser."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec
from litestar.datastructures import Cookie

from hub.access import browser
from hub.access.gate import SESSION, Gate
from hub.access.oidc import pending
from hub.access.oidc.flow import error_word, same
from hub.access.refusals import Refusals
from hub.caller import Caller
from hub.errors import NotFound, RequestError, Unauthorised

LOGIN: Final = "login"
"""Name of the cookie of a login that was begun."""
HOME: Final = "/"
"""Where a browser goes after a login that says nothing else."""


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider sends a browser back with."""

    code: str = ""
    state: str = ""
    iss: str | None = None
    error: str = ""


class Onward(msgspec.Struct, frozen=True):
    """Where a browser goes next, and the cookie that it gets, or loses."""

    url: str
    cookie: Cookie


class Logins:
    """Use cases of logins. `gate` is None where the hub has no provider; `secret` is 32 bytes; `clock` gives ms."""

    def __init__(
        self, gate: Gate | None, refusals: Refusals, secret: bytes, clock: Callable[[], int]
    ) -> None:
        self._gate = gate
        self._refusals = refusals
        self._secret = secret
        self._clock = clock

    @property
    def gate(self) -> Gate:
        """The gate. Raises `NotFound` where people cannot log in."""
        if self._gate is None:
            raise NotFound(
                "Nobody logs in here: the hub was started without --oidc-issuer.", rule="no_provider"
            )
        return self._gate

    def begin(self, back_to: str | None) -> Onward:
        """Send a browser to the provider. Raises `NotFound`, `Unavailable`."""
        site = self.gate.site
        login = pending.begin(browser.local_path(back_to, HOME), self._clock() // 1000, secrets.token_urlsafe)
        url = self.gate.provider.authorization_url(login)
        return Onward(url, site.cookie(LOGIN, pending.seal(login, self._secret), pending.LIFE_S))

    def finish(self, returned: Returned, headers: Mapping[str, str], request_id: str) -> Onward:
        """Open a session for whom the provider vouches for. Raises `RequestError`, and the audit tells why."""
        gate = self.gate
        try:
            return self._finish(gate, returned, headers, request_id)
        except RequestError as error:
            self._refusals.tell(error, request_id)
            raise

    def end_of_login(self) -> Cookie:
        """Return what takes the cookie of a begun login away: it is good for one try."""
        return self.gate.site.cookie(LOGIN, "", 0)

    def log_out_origin(self) -> str:
        """Return the origin to which logging out may lead at the provider, "" for none."""
        url = self.gate.provider.end_session_url("", "")
        parts = urlsplit(url or "")
        return f"{parts.scheme}://{parts.netloc}" if url else ""

    def log_out(self, text: str, caller: Caller) -> Onward:
        """End a session here, and say where it ends at the provider as well. Raises `Unauthorised`."""
        gate = self.gate
        id_token = gate.sessions.log_out(text, caller)
        back_to = f"{gate.site.url}/logout"
        url = gate.provider.end_session_url(id_token, back_to) or back_to
        return Onward(url, gate.site.cookie(SESSION, "", 0))

    def _finish(self, gate: Gate, returned: Returned, headers: Mapping[str, str], request_id: str) -> Onward:
        cookie = gate.site.cookie_of(headers, LOGIN)
        login = pending.unseal(cookie, self._secret, self._clock() // 1000)
        if not same(returned.state, login.state):
            raise Unauthorised("This answer is to another login; begin again.", rule="login_state")
        if returned.error or not returned.code:
            said = error_word(returned.error)
            raise Unauthorised(f"The identity provider refused ({said or 'no code'}).", rule="oidc_denied")
        who = gate.provider.finish(login, returned.code, returned.iss)
        former = gate.site.cookie_of(headers, SESSION)
        text = gate.sessions.open(who, login.state, former, request_id)
        life = gate.sessions.life_s
        return Onward(gate.site.url + login.back_to, gate.site.cookie(SESSION, text, life))
