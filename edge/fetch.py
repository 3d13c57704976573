"""Downloading a bundle: resumable, bounded in size, time and slowness, from whichever source has it.

What comes in is believed only by its signed size and hash, so a source needs no trust. The device's token is
shown to the hub alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import os
import random
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import SplitResult, urljoin, urlsplit

from edge import disk
from edge.config import Settings
from edge.errors import Stop
from topics.documents import Release

CHUNK: Final = 64 * 1024
MAX_REDIRECTS: Final = 3


class SourceError(Exception):
    """One source did not give the bundle; another, or the same one later, may."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to ask: URL templates, the hub's own URL, a token for it at a time (s), and the TLS context."""

    urls: list[str]
    hub: str
    token: Callable[[int], str]
    tls: Callable[[], ssl.SSLContext]


class Fetcher:
    """Fetches one release's bundle into a folder. `now` is the wall clock in ms."""

    def __init__(
        self,
        settings: Settings,
        sources: Sources,
        now: Callable[[], int],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._sources = sources
        self._now = now
        self._sleep = sleep
        self._offset = 0  # seconds by which the hub's clock is ahead of ours

    def fetch(self, release: Release, folder: Path) -> Path:
        """Return the complete, verified archive. Raises `Stop`; what was received stays, to resume from."""
        whole = folder / f"{release.bundle.sha256}.bundle"
        part = folder / f"{release.bundle.sha256}.part"
        if not self._sources.urls:
            raise Stop("the manifest names no source for the bundle")
        if is_whole(whole, release):
            return whole
        end = time.monotonic() + self._settings.download_seconds
        pause, failure, corrupt = self._settings.backoff_base_seconds, "", 0
        while True:
            for template in self._sources.urls:
                url = template.replace("{role}", release.role).replace("{release}", release.id)
                try:
                    self._from(url, release, part, end)
                    _check_hash(part, release)
                except CorruptError as error:
                    corrupt += 1
                    failure = f"{url}: {error}"
                    disk.remove(part)
                except (SourceError, http.client.HTTPException, OSError) as error:
                    if isinstance(error, OSError) and disk.is_full(error):
                        disk.remove(part)
                        raise Stop("the disk is full", full=True) from None
                    failure = f"{url}: {_sentence(error)}"
                else:
                    part.replace(whole)
                    disk.fsync_dir(folder)
                    return whole
            # Wrong bytes from every source, twice over: waiting mends nothing.
            if corrupt >= 2 * len(self._sources.urls):
                raise Stop(failure, check="bundle")
            # Jitter only spreads load, nothing is guessed by it.
            wait = pause * (0.5 + random.random() / 2)  # noqa: S311
            if time.monotonic() + wait > end:
                raise Stop(f"not downloaded within {self._settings.download_seconds:g} s; {failure}")
            self._sleep(wait)
            pause = min(pause * 2, self._settings.backoff_cap_seconds)

    def _from(self, url: str, release: Release, part: Path, end: float) -> None:
        size = release.bundle.size
        have = part.stat().st_size if part.exists() else 0
        if have > size:
            disk.remove(part)
            have = 0
        if have == size:
            return None
        for _ in range(MAX_REDIRECTS + 1):
            with self._get(url, have, release, end) as response:
                location = response.getheader("Location")
                if response.status in (301, 302, 303, 307, 308) and location:
                    url = urljoin(url, location)
                    continue
                return self._body(response, part, have, size)
        raise SourceError("redirected too often")

    def _get(
        self, url: str, have: int, release: Release, end: float, retry: bool = True
    ) -> http.client.HTTPResponse:
        parts = _split(url)
        headers = {"Accept-Encoding": "identity", "User-Agent": "flaghoist-edge"}
        ours = _origin(parts) == _origin(_split(self._sources.hub))
        if ours:
            now = self._now() // 1000 + self._offset
            headers["Authorization"] = f"Bearer {self._sources.token(now)}"
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": f'"{release.bundle.sha256}"'}
        connection = self._connect(parts, end)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        if response.status == 401 and ours and retry and self._correct(response):
            response.close()
            return self._get(url, have, release, end, retry=False)
        return response

    def _connect(self, parts: SplitResult, end: float) -> http.client.HTTPConnection:
        stall = self._settings.stall_seconds
        host, port = parts.hostname or "", parts.port
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=stall, context=self._sources.tls())
        elif parts.scheme == "http":
            connection = http.client.HTTPConnection(host, port, timeout=stall)
        else:
            raise SourceError(f"{parts.scheme!r} is not a scheme that bundles come by")
        try:
            connection.connect()
        except UnicodeError:
            raise SourceError("the host in its URL is no host name") from None
        paced = _Paced(connection.sock, stall, self._settings.floor_bytes_per_second, end)
        connection.sock = paced
        return connection

    def _correct(self, response: http.client.HTTPResponse) -> bool:
        """Take the hub's time from its answer: a token made by a wrong clock is refused. True when it differs."""
        with contextlib.suppress(TypeError, ValueError):
            theirs = int(parsedate_to_datetime(response.getheader("Date") or "").timestamp())
            offset = theirs - self._now() // 1000
            changed = abs(offset - self._offset) > 30
            self._offset = offset
            return changed
        return False

    def _body(self, response: http.client.HTTPResponse, part: Path, have: int, size: int) -> None:
        if response.status == 206:
            wanted = f"bytes {have}-"
            if not have or not (response.getheader("Content-Range") or "").startswith(wanted):
                raise SourceError("it answered with another range than was asked for")
        elif response.status == 200:
            have = 0
        elif response.status == 416:
            disk.remove(part)
            raise SourceError("it has fewer bytes than were received before (416)")
        else:
            raise SourceError(f"it answered {response.status} {response.reason}".strip())
        with part.open("r+b" if have else "wb") as file:
            file.seek(have)
            file.truncate()
            self._copy(response, file, size - have)
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def _copy(response: http.client.HTTPResponse, file: IO[bytes], left: int) -> None:
        while True:
            piece = response.read1(CHUNK)
            if not piece:
                break
            left -= len(piece)
            if left < 0:
                file.seek(0)
                file.truncate()
                raise CorruptError("it sends more bytes than were signed")
            file.write(piece)
        if left:
            raise SourceError(f"the download ended {left} bytes early")


class CorruptError(Exception):
    """The bytes are not the signed ones."""


def is_whole(path: Path, release: Release) -> bool:
    """Whether `path` is the release's archive."""
    try:
        _check_hash(path, release)
    except (OSError, CorruptError):
        return False
    return True


def _check_hash(path: Path, release: Release) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    if digest.hexdigest() != release.bundle.sha256:
        raise CorruptError("the bundle is not the one that was signed")


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # read here, since a port that is no number raises only when it is read
    except ValueError:
        raise SourceError("this is not a URL") from None
    return parts


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return (
        f"not HTTP ({type(error).__name__})" if isinstance(error, http.client.HTTPException) else str(error)
    )


class _Paced:
    """A socket whose every read counts: none may wait longer than `stall` s, the average over longer times
    may not fall below `floor` bytes/s, and nothing goes on after `end`. Covers headers as well as bodies."""

    def __init__(self, sock: socket.socket, stall: float, floor: int, end: float) -> None:
        self._sock = sock
        self._stall = stall
        self._floor = floor
        self._end = end
        self._start = time.monotonic()
        self._received = 0
        self._has_file = False

    def makefile(self, mode: str, *_: Any, **__: Any) -> io.BufferedReader:
        self._has_file = True
        return io.BufferedReader(_PacedFile(self, self._sock))

    def wait(self) -> float:
        """Return how long the next read may take in s; raises TimeoutError when the sender is too slow."""
        now = time.monotonic()
        passed = now - self._start
        if now >= self._end:
            raise TimeoutError("the time for downloading is over")
        if passed > self._stall and self._received < self._floor * passed:
            raise TimeoutError(f"it sends less than {self._floor} bytes/s")
        return min(self._stall, self._end - now)

    def count(self, size: int) -> None:
        self._received += size

    def close(self) -> None:
        # http.client lets go of the socket as soon as an answer has begun; the answer still reads from it.
        if not self._has_file:
            self._sock.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _PacedFile(io.RawIOBase):
    def __init__(self, pace: _Paced, sock: socket.socket) -> None:
        self._pace = pace
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._pace.wait())
        size = self._sock.recv_into(buffer)
        self._pace.count(size)
        return size

    def close(self) -> None:
        if not self.closed:
            self._sock.close()
        super().close()
