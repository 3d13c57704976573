"""HTTP of the Ops page and of what it reads of the whole fleet; thin."""

from __future__ import annotations

from typing import Any, Final

from litestar import Controller, Request, Response, get
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from litestar.status_codes import HTTP_304_NOT_MODIFIED

from hub.conditional import is_known
from hub.ops import files, grid
from hub.ops.overview import overview
from hub.signer import Signer
from hub.store import Store
from hub.times import Clock

AnyRequest = Request[Any, Any, State]
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing from elsewhere, nothing inline, and no text that becomes markup."""
_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": PAGE_POLICY,
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class OpsController(Controller):
    """`/`: the page and its files. They hold nothing of the fleet, so anybody may have them."""

    path = "/"
    tags = ["ops"]  # noqa: RUF012  (litestar reads it from the class)

    @get("/", opt={"access": "public"}, sync_to_thread=False)
    def page(self, request: AnyRequest) -> Response[bytes]:
        """The Ops page."""
        return _file(request, files.PAGE)

    @get("/ops/{name:str}", opt={"access": "public"}, sync_to_thread=False)
    def file(self, request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
        """A style sheet, module or picture of the Ops page."""
        return _file(request, name)


class FleetController(Controller):
    """`/fleet`: every device at once, in few bytes."""

    path = "/fleet"
    opt = {"access": "viewer"}  # noqa: RUF012
    tags = ["ops"]  # noqa: RUF012

    @get("/overview", sync_to_thread=True)
    def overview(
        self,
        request: AnyRequest,
        store: NamedDependency[Store],
        signer: NamedDependency[Signer],
        clock: NamedDependency[Clock],
    ) -> dict[str, Any]:
        """Counts by role and segment, releases that stand or are under way, and who asks."""
        with store.read() as tx:
            found = overview(tx, signer.fleet, clock.now())
        caller = request.state.caller
        return {**found, "caller": {"name": caller.name, "role": caller.role}}

    @get("/grid", sync_to_thread=True)
    def grid(
        self,
        store: NamedDependency[Store],
        clock: NamedDependency[Clock],
        role: FromQuery[str | None] = None,
        segment: FromQuery[str | None] = None,
        limit: FromQuery[int] = 5_000,
        cursor: FromQuery[str | None] = None,
    ) -> dict[str, Any]:
        """Devices by role, segment and id, each as its id, the letter of its condition and that of its release."""
        with store.read() as tx:
            return grid.page(tx, role=role, segment=segment, limit=limit, cursor=cursor, now=clock.now())


def _file(request: AnyRequest, name: str) -> Response[bytes]:
    found = files.get(name)
    headers = {**_HEADERS, "ETag": found.etag}
    if is_known(request.headers.get("if-none-match"), found.etag):
        return Response(b"", status_code=HTTP_304_NOT_MODIFIED, headers=headers)
    return Response(found.content, headers=headers, media_type=found.media_type)
