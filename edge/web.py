"""Small HTTP requests to the hub, with a cap on what is read."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from edge.errors import Refused, Unreachable
from edge.machine import clock

TIMEOUT: Final = 30.0


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
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    if parts.scheme not in ("http", "https") or not host:
        raise Refused(f"{url!r} is not the URL of a hub; it looks like http://hub.example:8080")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(host, port, timeout=seconds, context=tls)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=seconds)
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


def unchecked() -> ssl.SSLContext:
    """A context that believes any server: for answers that are signed, and requests without secrets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
