"""Who calls over HTTP, and whether they may. Closed by default: a route without `opt["access"]` is for admins.

`access` of a route is `public`, `device` (any device, or a viewer), `device-only` (no operator, whatever
their role) or the least operator role.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from litestar.connection import ASGIConnection, Request
from litestar.handlers import BaseRouteHandler

from hub.access.gate import SESSION, Gate
from hub.access.keys import FIRST, digest
from hub.caller import Caller
from hub.errors import Forbidden, RequestError, SetupError, Unauthorised, Unavailable
from hub.identity.files import read_private, write_atomic
from hub.identity.gateway import Gateways
from hub.identity.replays import Replays
from hub.store import Store, Tx
from hub.throttle import Throttle
from topics import devicetoken
from topics.errors import DecodeError

MIN_TOKEN = 20
"""Characters of an admin's token, at the least."""
ANONYMOUS = Caller("anonymous", "public")
_HINT = "Send `Authorization: Bearer TOKEN`; the first admin's token is in the file admin.token of the hub's data."


class Authenticator:
    """Turns credentials into a caller. `clock` gives ms; `gate` knows people, None where they have no provider."""

    def __init__(self, store: Store, fleet: str, clock: Callable[[], int], gate: Gate | None = None) -> None:
        self._store = store
        self._fleet = fleet
        self._clock = clock
        self._gate = gate
        self._replays = Replays()
        self.gateways: Gateways | None = None
        """Who may hand on a device's certificate; nobody by default."""

    def presented(self, scope: Any) -> Caller | None:
        """Return the device whose certificate a gateway saw, None without; raises `Unauthorised`."""
        return self.gateways.caller(scope) if self.gateways else None

    async def identify(self, scope: Any, *, is_form: bool = False) -> Caller:
        """Return who asks: by the Authorization header, or, without one, by a browser's session.

        A session is left in `scope["state"]["session"]`. `is_form` is for a route that looks for the CSRF token in the
        body. Raises `Unauthorised`, `Forbidden`, and `Unavailable` when a person's provider does not answer.
        """
        header, request_id = _authorization(scope), scope["state"].get("request_id", "")
        if self._gate is None:
            return self.caller(header, request_id)
        if not header:
            found = await self._gate.session(scope["method"], headers_of(scope), request_id, is_form=is_form)
            scope["state"]["session"] = found
            return found.caller
        token = header.partition(" ")[2]
        if token.count(".") == 2 and self._gate.is_for(token):
            return await self._gate.bearer(token, request_id)
        return self.caller(header, request_id)

    async def still(self, scope: Any) -> bool:
        """Whether who was identified by a request would be now. To look is no use of a session: it may run out."""
        try:
            if self._gate is not None and "session" in scope["state"]:
                self._gate.sessions.find(scope["state"]["session"].text, "")
            else:
                await self.identify(scope)
        except Unavailable:
            return True
        except RequestError:
            return False
        return True

    def credentials(self, scope: Any) -> str:
        """Return the text by which `identify` knows who asks, "" without any."""
        header = _authorization(scope)
        if header or self._gate is None:
            return header or ""
        return self._gate.site.cookie_of(headers_of(scope), SESSION) or ""

    def caller(self, header: str | None, request_id: str) -> Caller:
        """Return which key's or device's a header is; raises `Unauthorised`."""
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorised(_HINT, rule="no_token")
        with self._store.read() as tx:
            if token.count(".") == 2:
                return self._device(tx, token, request_id)
            row = tx.one(
                "SELECT name, role, expires_at FROM operators WHERE token_sha256 = :hash",
                {"hash": digest(token)},
            )
        if row is None:
            raise Unauthorised("The token is not known to this hub.", rule="unknown_token")
        if row["expires_at"] is not None and row["expires_at"] <= self._clock():
            raise Unauthorised("The API key has expired; have an admin make another.", rule="expired_token")
        return Caller(row["name"], row["role"], request_id)

    def check_post(self, header: str | None, body: bytes) -> None:
        """Let a post pass that `caller` knows for a device's; raises `Unauthorised` and `TooMany` for a replay."""
        token = (header or "").partition(" ")[2]
        self._replays.check(devicetoken.claims(token), body, self._clock() // 1000)

    def _device(self, tx: Tx, token: str, request_id: str) -> Caller:
        try:
            device_id = devicetoken.subject(token)
            row = tx.one(
                "SELECT public_key, revoked_at FROM devices WHERE device_id = :id", {"id": device_id}
            )
            if row is None or row["revoked_at"] is not None:
                raise Unauthorised("The device is unknown or revoked.", rule="device")
            devicetoken.verify(token, row["public_key"], self._fleet, self._clock() // 1000)
        except DecodeError as error:
            raise Unauthorised(f"The device token is refused: {error.detail}.", rule="device_token") from None
        return Caller(device_id, "device", request_id)


def guard(
    authenticator: Authenticator,
    throttle: Throttle,
) -> Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Awaitable[None]]:
    """Return the guard of every route: it puts the caller into `connection.state.caller` or refuses.

    A route with `opt["counted"]` False is not throttled: what a probe asks for, and bundles file by file, which have
    a ceiling of their own. One with `opt["stream"]` is left `state.still`, which says whether its reader still may.

    It reads one row by its key, which takes less than a thread to read it in.
    """

    async def check(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        # The scope itself: a view of all headers, and of the state, costs more than what is looked up in them.
        state = connection.scope["state"]
        access = handler.opt.get("access", "admin")
        counted = handler.opt.get("counted", True)
        if access == "public":
            if counted:
                throttle.count("address", _address(connection.scope))
            state["caller"] = ANONYMOUS
            return
        try:
            seen = authenticator.presented(connection.scope)
            caller = seen or await authenticator.identify(
                connection.scope, is_form=handler.opt.get("csrf") == "form"
            )
        except Unauthorised:
            throttle.count_failure(_address(connection.scope))
            raise
        if counted:
            throttle.count("device" if caller.role == "device" else "operator", caller.name)
        if access == "device-only" and caller.role != "device":
            raise Forbidden("Only a device may do this, and only for itself.", rule="device_only")
        needed = "viewer" if access.startswith("device") else access
        if not (caller.role == "device" and access.startswith("device")) and not caller.may(needed):
            raise Forbidden(f"This needs the role {needed}; {caller.name} has {caller.role}.", rule="role")
        by_token = caller.role == "device" and seen is None
        if by_token and isinstance(connection, Request) and connection.method == "POST":
            # The body is kept by the request, for the handler.
            authenticator.check_post(_authorization(connection.scope), await connection.body())
        state["caller"] = caller
        if handler.opt.get("stream"):
            state["still"] = partial(authenticator.still, connection.scope)

    return check


def _address(scope: Any) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def headers_of(scope: Any) -> dict[str, str]:
    """Return the headers of a request by their names in lower case; cookies that came in several are in one."""
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = str(raw, "latin-1").lower(), str(value, "latin-1")
        found[name] = f"{found[name]}; {text}" if name == "cookie" and name in found else text
    return found


def _authorization(scope: Any) -> str | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            return str(value, "latin-1")
    return None


def ensure_admin(store: Store, path: Path, now: int) -> None:
    """Make the first admin's token at the first start: hashed in the store, as text in `path` (0600).

    A file that was deleted or rewritten replaces the token: the former one is refused from then on.
    """
    if path.exists():
        token = _read_token(path)
    else:
        token = "fhadm_" + secrets.token_urlsafe(32)
        write_atomic(path, (token + "\n").encode(), 0o600)
    with store.write() as tx:
        tx.execute(
            "DELETE FROM operators WHERE id = :id AND token_sha256 <> :hash",
            {"id": FIRST, "hash": digest(token)},
        )
        tx.execute(
            "INSERT INTO operators (token_sha256, id, name, role, created_at, created_by) "
            "VALUES (:hash, :id, 'admin', 'admin', :now, 'rule:start') ON CONFLICT (token_sha256) DO NOTHING",
            {"hash": digest(token), "id": FIRST, "now": now},
        )


def _read_token(path: Path) -> str:
    """Return the admin's token; raises `SetupError` when the file is open to others, empty or no text."""
    try:
        token = read_private(path).decode("ascii").strip()
    except UnicodeDecodeError:
        token = ""
    if len(token) < MIN_TOKEN:
        raise SetupError(f"{path} holds no token; delete it, and the next start makes another.")
    return token
