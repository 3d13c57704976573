"""Small HTTP requests to the hub, with a cap on what is read; and connections that go through the site's proxy.

Networks that block MQTT often have a proxy for HTTP. `https_proxy`, `http_proxy` and `no_proxy` name it, as they do for
other programs; this machine itself is never asked for through it.
"""

from __future__ import annotations

import base64
import http.client
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from edge.errors import NotReady, Refused, Unreachable
from edge.machine import clock

TIMEOUT: Final = 30.0
_LOCAL: Final = ("localhost", "::1")


def request(
    method: str,
    url: str,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext,
    limit: int,
    seconds: float = TIMEOUT,
) -> tuple[int, bytes]:
    """Return (status, body) of one request; of a longer body `limit` + 1 bytes; `seconds` is the longest silence.

    Raises `Refused` for what is no URL and `Unreachable` when nobody answers.
    """
    parts = hub_parts(url)
    connection = connect(parts, seconds, lambda: tls)
    try:
        connection.request(method, parts.path, body or None, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read(limit + 1)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        where = f"{parts.scheme}://{parts.netloc}"
        raise Unreachable(
            f"no hub answers at {where} ({error}){clock.blamed(error)}; check the URL and the network"
        ) from None
    finally:
        connection.close()


def hub_parts(url: str) -> SplitResult:
    """Return the parts of a hub's URL. Raises `Refused` for what is none."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not host:
        raise Refused(f"{url!r} is not the URL of a hub; it looks like http://hub.example:8080")
    return parts


def connect(
    parts: SplitResult, seconds: float, tls: Callable[[], ssl.SSLContext]
) -> http.client.HTTPConnection:
    """Return a connection, not opened yet, to where `parts` (http or https) point, by the proxy if there is one.

    `seconds` is the longest silence. Raises `NotReady` for a proxy that is none.
    """
    host, port = parts.hostname or "", parts.port
    proxy = _proxy(parts.scheme, host)
    if proxy is None:
        if parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=seconds, context=tls())
        return http.client.HTTPConnection(host, port, timeout=seconds)
    near, near_port, headers = proxy
    if parts.scheme == "http":
        return _ThroughProxy(near, near_port, seconds, f"http://{parts.netloc}", headers)
    connection = http.client.HTTPSConnection(near, near_port, timeout=seconds, context=tls())
    connection.set_tunnel(host, port, headers)
    return connection


class _ThroughProxy(http.client.HTTPConnection):
    """Names the whole URL in each request, as a proxy for plain HTTP wants it."""

    def __init__(
        self, host: str, port: int, seconds: float, base: str, proxy_headers: Mapping[str, str]
    ) -> None:
        super().__init__(host, port, timeout=seconds)
        self._base = base
        self._proxy_headers = proxy_headers

    def putrequest(self, method: str, url: str, *arguments: Any, **more: Any) -> None:
        super().putrequest(method, self._base + url, *arguments, **more)
        for name, value in self._proxy_headers.items():
            self.putheader(name, value)


def _proxy(scheme: str, host: str) -> tuple[str, int, dict[str, str]] | None:
    """Return host, port and headers of the proxy for a URL, None without one. Raises `NotReady`."""
    # Only what speaks HTTP loads it: short-lived processes, not the agent that stays.
    from urllib.request import getproxies, proxy_bypass

    text = getproxies().get(scheme, "")
    if not text or host in _LOCAL or host.startswith("127.") or proxy_bypass(host):
        return None
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        near, port = parts.hostname or "", parts.port or 80
    except ValueError:
        parts, near, port = urlsplit(""), "", 0
    if parts.scheme != "http" or not near:
        raise NotReady(f"{scheme}_proxy names no proxy; it looks like http://proxy.example:3128")
    headers = {}
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return near, port, headers


def checked(ca: Path) -> ssl.SSLContext:
    """A context that believes public CAs, as mirrors have them, and the hub's own CA in the file `ca`."""
    context = ssl.create_default_context()
    context.load_verify_locations(ca)
    return context


def unchecked() -> ssl.SSLContext:
    """A context that believes any server: for answers that are signed, and requests without secrets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
