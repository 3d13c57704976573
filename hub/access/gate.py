"""How people come in with every request: by a token of their provider's, or by the session that they logged in to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from hub.access import browser
from hub.access.browser import Site
from hub.access.oidc.flow import Provider
from hub.access.oidc.tokens import issuer_of
from hub.access.people import name_of, recognise
from hub.access.sessions import Session, Sessions, opened_by
from hub.caller import Caller
from hub.errors import Unauthorised
from hub.store import Store

SESSION = "session"
"""Name of the cookie."""


class Gate:
    """Knows people, when the hub has a provider. `clock` gives ms; `close` ends its threads."""

    def __init__(
        self, store: Store, provider: Provider, sessions: Sessions, site: Site, clock: Callable[[], int]
    ) -> None:
        self.provider = provider
        self.sessions = sessions
        self.site = site
        self._store = store
        self._clock = clock
        # Not the loop's own: a provider that is slow must hold up nobody but those who come by it.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="oidc")

    def is_for(self, token: str) -> bool:
        """Whether a token claims to be of some issuer; a device's names none."""
        return issuer_of(token) is not None

    async def bearer(self, token: str, request_id: str) -> Caller:
        """Return whose token this is. Raises `Unauthorised`, `Forbidden` and `Unavailable`."""
        work = partial(self._bearer, token, request_id)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def session(
        self, method: str, headers: Mapping[str, str], request_id: str, *, is_form: bool
    ) -> Session:
        """Return the session of a browser's request. A form says its CSRF token in its body, where its handler looks.

        Raises `Unauthorised` without a good one, `Forbidden` for what a page elsewhere may have asked.
        """
        text = self.session_text(headers)
        found = self.sessions.find(text, request_id)
        browser.check_origin(self.site, method, headers)
        if method not in browser.SAFE and not is_form:
            browser.check_token(text, headers.get(browser.CSRF_HEADER))
        if found.is_due:
            await asyncio.to_thread(self.sessions.touch, found)
        return found

    def session_text(self, headers: Mapping[str, str]) -> str:
        """Return the text of a browser's session. Raises `Unauthorised` without one."""
        text = self.site.cookie_of(headers, SESSION)
        if text is None:
            raise Unauthorised("Log in at /login, or send `Authorization: Bearer TOKEN`.", rule="no_token")
        return text

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _bearer(self, token: str, request_id: str) -> Caller:
        with self._store.read() as tx:
            if opened_by(tx, token):
                raise Unauthorised("This token opened a session; take one of your own.", rule="oidc_session")
        found, now = self.provider.bearer(token), self._clock()
        with self._store.read() as tx:
            is_known = name_of(tx, found.person.actor) == found.person.name
        if not is_known:
            with self._store.write() as tx:
                recognise(tx, found.person, found.role, request_id, now)
        return Caller(found.person.actor, found.role, request_id)
