"""What a browser sends with every request, and when that is not believed. Pure.

A browser adds a session's cookie to whatever any page makes it ask. So a request that changes something counts only
when it comes from a page of the hub's own: the browser says so (`Sec-Fetch-Site`, or `Origin` in old ones), and it
carries the session's CSRF token, which no other page can read. A request that changes nothing counts also when somebody
follows a link from elsewhere, and not when a page elsewhere fetches it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec
from litestar.datastructures import Cookie

from hub.errors import Forbidden

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER: Final = "x-csrf-token"


class Site(msgspec.Struct, frozen=True):
    """Where browsers find the hub: its URL, with the prefix that a proxy gives it, and without a slash at its end."""

    url: str

    @property
    def origin(self) -> str:
        """Scheme, host and port, as browsers spell them."""
        parts = urlsplit(self.url)
        host = (parts.hostname or "").lower()
        default = {"https": 443, "http": 80}.get(parts.scheme)
        shown = f"[{host}]" if ":" in host else host
        port = "" if parts.port in (None, default) else f":{parts.port}"
        return f"{parts.scheme}://{shown}{port}"

    @property
    def is_secure(self) -> bool:
        """Whether browsers find it by https."""
        return self.url.startswith("https:")

    def cookie_name(self, name: str) -> str:
        """Return a cookie's whole name. With `__Host-` no other host of the domain, and no plain http, can set it."""
        return f"__Host-flaghoist-{name}" if self.is_secure else f"flaghoist-{name}"

    def cookie(self, name: str, value: str, max_age: int) -> Cookie:
        """Return a cookie to set; a `max_age` (s) of 0 takes it away."""
        return Cookie(
            key=self.cookie_name(name),
            value=value,
            max_age=max_age,
            path="/",
            secure=self.is_secure,
            httponly=True,
            samesite="lax",
        )

    def cookie_of(self, headers: Mapping[str, str], name: str) -> str | None:
        """Return a cookie's value, None without one. One that comes twice is none: somebody else has set the other."""
        text, whole = headers.get("cookie", ""), self.cookie_name(name)
        pairs = [pair.strip().partition("=") for pair in text.split(";")]
        values = [value for key, _, value in pairs if key == whole]
        return values[0] if len(values) == 1 and values[0] else None


def csrf_token(session: str) -> str:
    """Return the CSRF token of a session's text: whoever has it cannot tell the session from it."""
    return hmac.new(session.encode(), b"flaghoist-csrf", hashlib.sha256).hexdigest()


def check_origin(site: Site, method: str, headers: Mapping[str, str]) -> None:
    """Raise `Forbidden` for a request with a session's cookie that a page elsewhere may have made."""
    fetched, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if method in SAFE:
        linked = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        good = fetched in (None, "none", "same-origin") or linked
    elif fetched is None:
        good = origin == site.origin
    else:
        # A form on a page without a referrer policy of its own has the origin "null", and is of the same origin still.
        good = fetched == "same-origin" and origin in (None, "null", site.origin)
    if not good:
        raise Forbidden("A page of another site has asked this; open the hub's own.", rule="csrf_origin")


def check_token(session: str, given: str | None) -> None:
    """Raise `Forbidden` unless `given` is the session's CSRF token."""
    if given is None or not hmac.compare_digest(given.encode(), csrf_token(session).encode()):
        raise Forbidden(
            "A change needs the session's CSRF token in the header X-CSRF-Token; GET /session has it.",
            rule="csrf_token",
        )


def local_path(text: str | None, default: str) -> str:
    """Return a path of the hub's own to come back to, the default for what might lead elsewhere.

    >>> local_path("/devices?role=kiosk", "/"), local_path("//evil.example", "/"), local_path("/\\\\evil.example", "/")
    ('/devices?role=kiosk', '/', '/')
    """
    if text is None or len(text) > 1024 or not text.isascii() or not text.isprintable():
        return default
    if not text.startswith("/") or text.startswith("//") or "\\" in text:
        return default
    return text
