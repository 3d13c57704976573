"""Errors of the hub and of the operator's command, grouped by who can mend them.

    HubError
    ├── SetupError       the machine: a missing program, a port in use, a file that cannot be read
    └── RequestError     the caller: answered as problem+json over HTTP, one sentence on a terminal
        ├── NotFound           404
        ├── Unauthorised       401
        ├── Forbidden          403
        ├── Conflict           409   the state of things refuses; `rule` names which rule
        ├── PreconditionFailed 412
        ├── TooLarge           413
        ├── Invalid            422   the request itself is wrong
        ├── TooMany            429   asked too often; `retry_after` says how long to wait
        └── Unavailable        503   somebody else, whom the answer needs, is away; `retry_after` as well

Anything else that escapes is our own bug: a 500, logged with its traceback, shown without it.
"""

from __future__ import annotations

from typing import Any, ClassVar


class HubError(Exception):
    """Root. The text is one sentence that names the thing and the way out."""


class SetupError(HubError):
    """The machine is not ready; exit code 3."""


class RequestError(HubError):
    """The caller asked for something that is refused. `rule` is a stable word for the rule that refused.

    `more` are further members of the problem document: what a program needs that the sentence only names.
    """

    status: ClassVar[int] = 400
    title: ClassVar[str] = "Bad request"

    def __init__(self, detail: str, *, rule: str = "", **more: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.rule = rule
        self.more = more


class NotFound(RequestError):  # noqa: N818  (named by outcome)
    """What the path names does not exist."""

    status, title = 404, "Not found"


class Unauthorised(RequestError):  # noqa: N818
    """No credentials, or credentials that are not valid."""

    status, title = 401, "Unauthorised"


class Forbidden(RequestError):  # noqa: N818
    """Valid credentials without the right."""

    status, title = 403, "Forbidden"


class Conflict(RequestError):  # noqa: N818
    """A rule refuses in the present state."""

    status, title = 409, "Conflict"


class PreconditionFailed(RequestError):  # noqa: N818
    """`If-Match` names another version than the present one."""

    status, title = 412, "Precondition failed"


class TooLarge(RequestError):  # noqa: N818
    """A body over its cap."""

    status, title = 413, "Content too large"


class Invalid(RequestError):  # noqa: N818
    """The request's own content is wrong."""

    status, title = 422, "Invalid content"


class TooMany(RequestError):  # noqa: N818
    """Asked too often. `retry_after` is how many seconds to wait."""

    status, title = 429, "Too many requests"

    def __init__(self, detail: str, *, rule: str, retry_after: int) -> None:
        super().__init__(detail, rule=rule)
        self.retry_after = retry_after


class Unavailable(RequestError):  # noqa: N818
    """Somebody else, whom the answer needs, is away. `retry_after` is how many seconds to wait."""

    status, title = 503, "Service unavailable"

    def __init__(self, detail: str, *, rule: str, retry_after: int) -> None:
        super().__init__(detail, rule=rule)
        self.retry_after = retry_after
