"""Connections to sources that are kept from one request to the next: on a thin link a TLS handshake costs more
bytes than many a file.

One for each of the `MOST` sources used last. A source may close a connection whenever it likes, so what breaks on a
kept one before an answer is asked for again on a new one; what breaks on a new one is the source's failure. A source
that sends more than it said spoils its own next answer, and no other: content is believed by its hash alone.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import ssl
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, cast
from urllib.parse import SplitResult

from edge import web
from edge.download.paced import Paced

MOST: Final = 4
DRAINED: Final = 4096
"""Bytes of an answer of no use (an error's page) that are read to keep the connection; beyond, a new one is cheaper."""

Origin = tuple[str, str, int]
Kept = dict[Origin, http.client.HTTPConnection]


def origin(parts: SplitResult) -> Origin:
    """Return scheme, host and port of a URL."""
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


class Connections:
    """Asks, each read within `stall` s and not slower than `floor` bytes/s. `tls` makes the one context there is.

    What is kept is closed when this object goes.
    """

    def __init__(self, tls: Callable[[], ssl.SSLContext], stall: float, floor: int) -> None:
        self._make_context = tls
        self._context: ssl.SSLContext | None = None
        self._sessions: dict[Origin, ssl.SSLSession] = {}
        self._stall = stall
        self._floor = floor
        self._kept: Kept = {}
        weakref.finalize(self, _close, self._kept)

    @contextlib.contextmanager
    def get(
        self, parts: SplitResult, headers: dict[str, str], end: float
    ) -> Iterator[http.client.HTTPResponse]:
        """Ask for a URL and give the answer, to be read until the monotonic time `end`.

        Raises `NotReady` for a proxy that is none, `OSError`, `HTTPException`.
        """
        place = origin(parts)
        connection, response = self._answer(place, parts, headers, end)
        try:
            yield response
        finally:
            if _is_over(response):
                self._keep(place, connection)
            else:
                connection.close()
            response.close()

    def _answer(
        self, place: Origin, parts: SplitResult, headers: dict[str, str], end: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self._kept.pop(place, None)
        if connection is not None:
            if not _has_ended(connection):
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    return connection, _ask(connection, parts, headers, end)
            connection.close()
        connection = self._connect(place, parts)
        return connection, _ask(connection, parts, headers, end)

    def _connect(self, place: Origin, parts: SplitResult) -> http.client.HTTPConnection:
        connection = web.connect(parts, self._stall, partial(self._resuming, place))
        try:
            connection.connect()
        except UnicodeError:
            raise OSError("the host in its URL is no host name") from None
        except BaseException:
            connection.close()
            raise
        connection.sock = Paced(connection.sock, self._stall, self._floor)
        return connection

    def _resuming(self, place: Origin) -> ssl.SSLContext:
        if self._context is None:
            self._context = self._make_context()
        return cast("ssl.SSLContext", _Resuming(self._context, self._sessions.get(place)))

    def _keep(self, place: Origin, connection: http.client.HTTPConnection) -> None:
        if place[0] == "https":
            self._sessions[place] = _paced(connection).session
        self._kept[place] = connection
        if len(self._kept) > MOST:
            oldest = next(iter(self._kept))
            self._kept.pop(oldest).close()
            self._sessions.pop(oldest, None)


class _Resuming:
    """A TLS context whose next handshake resumes `session`: without certificates, in a third of the bytes."""

    def __init__(self, context: ssl.SSLContext, session: ssl.SSLSession | None) -> None:
        self._context = context
        self._session = session

    def wrap_socket(self, sock: Any, **options: Any) -> ssl.SSLSocket:
        return self._context.wrap_socket(sock, session=self._session, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def _ask(
    connection: http.client.HTTPConnection, parts: SplitResult, headers: dict[str, str], end: float
) -> http.client.HTTPResponse:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        _paced(connection).begin(end)
        connection.request("GET", path, headers=headers)
        return connection.getresponse()
    except BaseException:
        connection.close()
        raise


def _paced(connection: http.client.HTTPConnection) -> Paced:
    return cast("Paced", connection.sock)


def _is_over(response: http.client.HTTPResponse) -> bool:
    """Whether the answer was read to its end, so that the next one on its connection is the next one."""
    if response.will_close:
        return False
    if response.length is not None and response.length <= DRAINED:
        with contextlib.suppress(OSError, http.client.HTTPException):
            response.read()
    return response.length == 0 or (response.length is None and response.isclosed())


def _has_ended(connection: http.client.HTTPConnection) -> bool:
    """Whether the other side closed it, or said something that nobody asked for."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _close(kept: Kept) -> None:
    while kept:
        kept.popitem()[1].close()
