"""HTTP of logging in and out, and of sessions; thin. `/login` to `/session` are what a page of the hub needs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import parse_qs

from litestar import Controller, Request, Response, delete, get, post
from litestar.datastructures import Cookie, State
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, FromQuery, QueryParameter

from hub.access import browser, rendering
from hub.access.logins import Logins, Returned
from hub.access.sessions import Session
from hub.errors import Conflict, RequestError, Unauthorised
from hub.times import rfc3339

AnyRequest = Request[Any, Any, State]
FORM_LIMIT = 4096
"""Bytes of the form that logs out."""
_REFUSED = ResponseSpec(str, media_type="text/html", description="A page that says why nobody is logged in.")
_NO_STORE = {"Cache-Control": "no-store"}


class LoginController(Controller):
    """`/login`, `/logout`, `/session`: a browser's way in and out."""

    path = "/"
    tags = ["access"]  # noqa: RUF012  (litestar reads it from the class)

    @get("/login", opt={"access": "public"}, sync_to_thread=True, status_code=303)
    def login(self, logins: NamedDependency[Logins], next: FromQuery[str | None] = None) -> Response[None]:
        """Send the browser to the provider; `next` is a path of the hub's to come back to."""
        onward = logins.begin(next)
        return _redirect(onward.url, onward.cookie)

    @get(
        "/login/callback",
        opt={"access": "public"},
        sync_to_thread=True,
        status_code=303,
        responses=dict.fromkeys((401, 403), _REFUSED),
    )
    def callback(
        self,
        request: AnyRequest,
        logins: NamedDependency[Logins],
        code: FromQuery[str] = "",
        given: Annotated[str, QueryParameter(name="state")] = "",
        iss: FromQuery[str | None] = None,
        error: FromQuery[str] = "",
    ) -> Response[Any]:
        """Where the provider sends the browser back: opens a session, or says on a page why not."""
        returned = Returned(code=code, state=given, iss=iss, error=error)
        used = logins.end_of_login()
        try:
            onward = logins.finish(returned, request.headers, request.state.request_id)
        except RequestError as refused:
            link = f"{logins.gate.site.url}/login"
            page = rendering.message("Not logged in", refused.detail, link=link, label="Try again")
            return _page(page, "'none'", status=refused.status, cookies=[used])
        return _redirect(onward.url, onward.cookie, used)

    @get("/session", opt={"access": "viewer"}, sync_to_thread=False)
    def session(self, request: AnyRequest) -> Response[dict[str, Any]]:
        """Who this is, what they may do, and the CSRF token that changes from a browser need."""
        caller, found = request.state.caller, _session(request)
        who = {"actor": caller.name, "name": found.name if found else caller.name, "role": caller.role}
        if found is None:
            return Response({**who, "session": None, "csrf_token": None}, headers=_NO_STORE)
        times = {"expires_at": rfc3339(found.expires_at), "idle_until": rfc3339(found.idle_until)}
        token = browser.csrf_token(found.text)
        return Response({**who, "session": found.id, "csrf_token": token, **times}, headers=_NO_STORE)

    @get("/logout", opt={"access": "public"}, sync_to_thread=True)
    def leave(self, request: AnyRequest, logins: NamedDependency[Logins]) -> Response[Any]:
        """A page with the button that logs out, or, after that, with the way back in."""
        gate = logins.gate
        try:
            found = gate.sessions.find(gate.session_text(request.headers), request.state.request_id)
        except Unauthorised:
            link = f"{gate.site.url}/login"
            return _page(
                rendering.message("Logged out", "You are not logged in.", link=link, label="Log in"), "'none'"
            )
        page = rendering.log_out(
            found.name, action=f"{gate.site.url}/logout", csrf_token=browser.csrf_token(found.text)
        )
        # Browsers hold a form's redirect against this too, and it may lead to the provider.
        return _page(page, f"'self' {logins.log_out_origin()}".strip())

    @post(
        "/logout",
        opt={"access": "viewer", "csrf": "form"},
        request_max_body_size=FORM_LIMIT,
        status_code=200,
    )
    async def log_out(self, request: AnyRequest, logins: NamedDependency[Logins]) -> Response[Any]:
        """End the session: a script that sends the token as a header is told where to go on, a form is sent there."""
        found = _session(request)
        if found is None:
            raise Conflict("There is no session to end: an API key is revoked instead.", rule="no_session")
        header = request.headers.get(browser.CSRF_HEADER)
        fields = {} if header is not None else parse_qs((await request.body()).decode("latin-1"))
        browser.check_token(found.text, header if header is not None else fields.get("csrf_token", [None])[0])
        onward = await asyncio.to_thread(logins.log_out, found.text, request.state.caller)
        if header is None:
            return _redirect(onward.url, onward.cookie)
        return Response({"redirect": onward.url}, cookies=[onward.cookie], headers=_NO_STORE)


class SessionsController(Controller):
    """`/sessions`: who is logged in."""

    path = "/sessions"
    opt = {"access": "admin"}  # noqa: RUF012
    tags = ["access"]  # noqa: RUF012

    @get("/", sync_to_thread=True)
    def index(self, logins: NamedDependency[Logins]) -> dict[str, Any]:
        """List the sessions that are good now."""
        return {"items": logins.gate.sessions.all()}

    @delete("/{session_id:str}", sync_to_thread=True)
    def revoke(self, request: AnyRequest, logins: NamedDependency[Logins], session_id: FromPath[str]) -> None:
        """End somebody's session."""
        logins.gate.sessions.revoke(session_id, request.state.caller)


def _session(request: AnyRequest) -> Session | None:
    found = request.scope["state"].get("session")
    return found if isinstance(found, Session) else None


def _redirect(url: str, *cookies: Cookie) -> Response[None]:
    return Response(None, status_code=303, headers={**_NO_STORE, "Location": url}, cookies=cookies)


def _page(
    page: str, form_targets: str, *, status: int = 200, cookies: list[Cookie] | None = None
) -> Response[str]:
    headers = {**_NO_STORE, "Content-Security-Policy": rendering.policy(page, form_targets)}
    return Response(page, status_code=status, headers=headers, cookies=cookies, media_type="text/html")
