"""One answer of one source: an HTTP download into a file that is resumed, and bounded in size, time and slowness.

What comes in is believed by nobody here. The device's token is shown to the hub alone.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import ssl
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Final
from urllib.parse import SplitResult, urljoin, urlsplit

from edge.config import Settings
from edge.download.connections import Connections, origin
from edge.errors import NotReady
from edge.storage import disk

CHUNK: Final = 64 * 1024
MAX_REDIRECTS: Final = 3
DENIALS: Final = (403, 404, 410)
"""Statuses by which a source says that it has not got it, or not for us: asking again at once mends nothing."""
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)\Z")


class SourceError(Exception):
    """One source did not give what was asked for; another, or the same one later, may."""


class DeniedError(SourceError):
    """The source says that it has not got it."""


class CorruptError(SourceError):
    """What the source offers cannot be what was signed."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to ask: URL templates, the hub's own URL, a token for it at a time (s), and the TLS context."""

    urls: list[str]
    hub: str
    token: Callable[[int], str]
    tls: Callable[[], ssl.SSLContext]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Content by its signed hash and size (bytes)."""

    sha256: str
    size: int


class Client:
    """Asks sources in the name of this device. `now` is the wall clock in ms."""

    def __init__(self, settings: Settings, sources: Sources, now: Callable[[], int]) -> None:
        self._sources = sources
        self._now = now
        self._connections = Connections(sources.tls, settings.stall_seconds, settings.floor_bytes_per_second)
        self._offset = 0  # seconds by which the hub's clock is ahead of ours

    def receive(self, url: str, wanted: Wanted, part: Path, end: float) -> None:
        """Bring `part` to `wanted.size` bytes, from where it stands. Ends by the monotonic time `end`.

        What was received before a failure stays in `part`. Raises `SourceError`, `OSError`, `HTTPException`.
        """
        have = part.stat().st_size if part.exists() else 0
        if have > wanted.size:
            disk.remove(part)
            have = 0
        if have == wanted.size and part.exists():
            return
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": f'"{wanted.sha256}"'}
        with self._get(url, headers, end) as response:
            _body(response, part, have, wanted.size)

    def document(self, url: str, limit: int, end: float, *, packed: bool) -> bytes:
        """Return a body of at most `limit` bytes, unpacked by gzip when `packed`. Raises as `receive` does."""
        with self._get(url, {"Accept-Encoding": "identity"}, end) as response:
            if response.status != 200:
                raise _refusal(response)
            data = response.read(limit + 1)
        if packed and len(data) <= limit:
            data = _unpack(data, limit)
        if len(data) > limit:
            raise CorruptError(f"it sends more than {limit} bytes")
        return data

    @contextlib.contextmanager
    def _get(self, url: str, headers: dict[str, str], end: float) -> Iterator[http.client.HTTPResponse]:
        for _ in range(MAX_REDIRECTS + 1):
            with self._ask(url, headers, end) as response:
                location = response.getheader("Location")
                if response.status not in (301, 302, 303, 307, 308) or not location:
                    yield response
                    return
            url = urljoin(url, location)
        raise SourceError("redirected too often")

    @contextlib.contextmanager
    def _ask(self, url: str, headers: dict[str, str], end: float) -> Iterator[http.client.HTTPResponse]:
        parts = _split(url)
        if parts.scheme not in ("http", "https"):
            raise SourceError(f"{parts.scheme!r} is not a scheme that bundles come by")
        ours = origin(parts) == origin(_split(self._sources.hub))
        for last in (False, True):
            sent = {**headers, "User-Agent": "flaghoist-edge"}
            if ours:
                now = self._now() // 1000 + self._offset
                sent["Authorization"] = f"Bearer {self._sources.token(now)}"
            try:
                with self._connections.get(parts, sent, end) as response:
                    if last or not (ours and response.status == 401 and self._correct(response)):
                        yield response
                        return
            except NotReady as error:
                raise SourceError(str(error)) from None

    def _correct(self, response: http.client.HTTPResponse) -> bool:
        """Take the hub's time from its answer: a token made by a wrong clock is refused. True when it differs."""
        with contextlib.suppress(TypeError, ValueError):
            theirs = int(parsedate_to_datetime(response.getheader("Date") or "").timestamp())
            offset = theirs - self._now() // 1000
            changed = abs(offset - self._offset) > 30
            self._offset = offset
            return changed
        return False


def sentence(error: Exception) -> str:
    """Return what went wrong with a source, for people."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return (
        f"not HTTP ({type(error).__name__})" if isinstance(error, http.client.HTTPException) else str(error)
    )


def _refusal(response: http.client.HTTPResponse) -> SourceError:
    kind = DeniedError if response.status in DENIALS else SourceError
    return kind(f"it answered {response.status} {response.reason}".strip())


def _body(response: http.client.HTTPResponse, part: Path, have: int, size: int) -> None:
    if response.status == 206:
        match = _CONTENT_RANGE.match(response.getheader("Content-Range") or "")
        if not have or match is None or int(match[1]) != have:
            raise SourceError("it answered with another range than was asked for")
        if match[2] not in ("*", str(size)):
            raise CorruptError(f"it has {match[2]} bytes where {size} were signed")
    elif response.status == 200:
        have = 0
    elif response.status == 416:
        disk.remove(part)
        raise SourceError("it has fewer bytes than were received before (416)")
    else:
        raise _refusal(response)
    # `length` is what the headers promise, None when they promise nothing.
    if response.length is not None and response.length != size - have:
        raise CorruptError(f"it offers {have + response.length} bytes where {size} were signed")
    with part.open("r+b" if have else "wb") as file:
        file.seek(have)
        file.truncate()
        _copy(response, file, size - have)
        file.flush()
        os.fsync(file.fileno())


def _copy(response: http.client.HTTPResponse, file: IO[bytes], left: int) -> None:
    while piece := response.read1(CHUNK):
        left -= len(piece)
        if left < 0:
            file.seek(0)
            file.truncate()
            raise CorruptError("it sends more bytes than were signed")
        file.write(piece)
    if left:
        raise SourceError(f"the download ended {left} bytes early")


def _unpack(data: bytes, limit: int) -> bytes:
    gunzip = zlib.decompressobj(wbits=31)
    try:
        return gunzip.decompress(data, limit + 1)
    except zlib.error as error:
        raise SourceError(f"it is not a good gzip file: {error}") from None


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # read here, since a port that is no number raises only when it is read
    except ValueError:
        raise SourceError("this is not a URL") from None
    return parts
