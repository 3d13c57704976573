"""Every error over HTTP is application/problem+json (RFC 9457), with a stable `type` and, for refusals, the rule."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from hub.errors import RequestError, TooMany, Unauthorised, Unavailable
from hub.store import StoreBusy, StoreFull

MEDIA_TYPE = "application/problem+json"
_log = structlog.get_logger("hub.http")
AnyRequest = Request[Any, Any, Any]


def problem(
    status: int,
    title: str,
    detail: str,
    *,
    rule: str = "",
    headers: dict[str, str] | None = None,
    **extra: Any,
) -> Response[dict[str, Any]]:
    """Return one problem document."""
    kind = rule.replace("_", "-") if rule else title.lower().replace(" ", "-")
    body = {"type": f"urn:flaghoist:problem:{kind}", "title": title, "status": status, "detail": detail}
    if rule:
        body["rule"] = rule
    return Response({**body, **extra}, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def on_request_error(_request: AnyRequest, error: RequestError) -> Response[dict[str, Any]]:
    """A refusal of ours."""
    headers = None
    if isinstance(error, Unauthorised):
        headers = {"WWW-Authenticate": "Bearer"}
    elif isinstance(error, TooMany | Unavailable):
        headers = {"Retry-After": str(error.retry_after)}
    return problem(error.status, error.title, error.detail, rule=error.rule, headers=headers, **error.more)


def on_http_exception(request: AnyRequest, error: HTTPException) -> Response[dict[str, Any]]:
    """What the framework refuses: unknown routes, wrong methods, bodies that do not validate."""
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return on_bug(request, error)
    extra: dict[str, Any] = {"errors": error.extra} if error.extra else {}
    title = HTTPStatus(error.status_code).phrase
    return problem(error.status_code, title, error.detail or title, headers=error.headers, **extra)


def on_store_error(_request: AnyRequest, error: StoreBusy | StoreFull) -> Response[dict[str, Any]]:
    """The store cannot take a write now; nothing was changed."""
    if isinstance(error, StoreFull):
        return problem(
            HTTPStatus.INSUFFICIENT_STORAGE,
            "Insufficient storage",
            "The hub's disk is full.",
            rule="disk_full",
        )
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Service unavailable",
        "The hub's database is busy; try again.",
        rule="store_busy",
        headers={"Retry-After": "1"},
    )


def on_overflow(_request: AnyRequest, _error: OverflowError) -> Response[dict[str, Any]]:
    """A number that no database column holds, in a path or query."""
    return problem(
        HTTPStatus.BAD_REQUEST, "Bad Request", "A number in the request is beyond 64 bits.", rule="number"
    )


def on_bug(request: AnyRequest, error: Exception) -> Response[dict[str, Any]]:
    """Our own fault: logged whole, shown without its inside."""
    _log.error("request failed", method=request.method, path=request.url.path, exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "Internal error",
        "The hub failed on this request; its log has the reason under the request id.",
        request_id=request.scope.get("state", {}).get("request_id", ""),
    )


HANDLERS = {
    RequestError: on_request_error,
    HTTPException: on_http_exception,
    StoreBusy: on_store_error,
    StoreFull: on_store_error,
    OverflowError: on_overflow,
    Exception: on_bug,
}
