"""Which errors the OpenAPI document promises of each route: those that any route may answer with, as problem+json."""

from __future__ import annotations

from typing import Final

import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.plugins import ReceiveRoutePlugin
from litestar.routes import BaseRoute, HTTPRoute

from hub.problems import MEDIA_TYPE


class Problem(msgspec.Struct, frozen=True):
    """RFC 9457: `type` is a stable URN; `rule` names the rule that refused, where one did."""

    type: str
    title: str
    status: int
    detail: str
    rule: str = ""


ALWAYS: Final = {
    400: "A body, parameter or number that does not validate.",
    404: "What the path names does not exist.",
    422: "The content is wrong.",
    429: "Asked too often; see Retry-After.",
    503: "The database is busy; see Retry-After.",
}
CLOSED: Final = {401: "No credentials, or wrong ones.", 403: "Not allowed."}
WRITES: Final = {
    409: "A rule refuses in the present state.",
    412: "If-Match names another version.",
    413: "The body is too large.",
    507: "The disk is full.",
}


class ProblemDocs(ReceiveRoutePlugin):
    """Adds them to every handler as its route is registered. What a handler documents itself stays."""

    def receive_route(self, route: BaseRoute) -> None:
        """Document the errors of each handler of `route`."""
        if not isinstance(route, HTTPRoute):
            return
        for handler in route.route_handlers:
            if handler.include_in_schema is not False:
                handler.responses = {**_specs(handler), **(handler.responses or {})}


def _specs(handler: HTTPRouteHandler) -> dict[int, ResponseSpec]:
    found = dict(ALWAYS)
    # A signed URL needs no credentials and is refused like them.
    found |= CLOSED if handler.opt.get("access") != "public" or "signature" in str(handler.paths) else {}
    found |= WRITES if handler.http_methods - {"GET", "HEAD"} else {}
    return {
        status: ResponseSpec(Problem, description=text, media_type=MEDIA_TYPE, generate_examples=False)
        for status, text in sorted(found.items())
    }
