"""Downloading a release from whichever source has it: the bundle, or some of its files, or their checksums.

What comes in is believed only by its signed size and hash, so a source needs no trust.
"""

from __future__ import annotations

import hashlib
import http.client
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from edge.config import Settings
from edge.download.http import (
    CHUNK,
    Client,
    CorruptError,
    DeniedError,
    SourceError,
    Sources,
    Wanted,
    sentence,
)
from edge.download.turns import BRIEF, PATIENT, Patience, Turns
from edge.errors import Stop
from edge.storage import disk
from topics import bundle, changes
from topics.bundle import Checksums
from topics.documents import Release
from topics.errors import DecodeError

__all__ = ["Fetcher", "Sources", "is_whole"]

HUB_PATH: Final = "/artifacts/{role}/{release}/bundle"
"""Below the hub's own URL, which stands in when no source of the manifest gives the bundle."""


@dataclass(frozen=True, slots=True)
class Held:
    """The checksums of a release that stands here."""

    release: str
    checksums: Checksums


class Fetcher:
    """Fetches what belongs to one release into a folder. `now` is the wall clock in ms."""

    def __init__(
        self,
        settings: Settings,
        sources: Sources,
        now: Callable[[], int],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._client = Client(settings, sources, now)
        self._templates = list(dict.fromkeys([*sources.urls, sources.hub.rstrip("/") + HUB_PATH]))
        self._sleep = sleep

    def fetch(self, release: Release, folder: Path, patience: Patience = PATIENT) -> Path:
        """Return the complete, verified archive. Raises `Stop`; what was received stays, to resume from."""
        wanted = Wanted(release.bundle.sha256, release.bundle.size)
        whole = folder / f"{wanted.sha256}.bundle"
        if not is_whole(whole, release):
            self._fetch(self._urls(release), wanted, whole, patience, self._settings.download_seconds)
        return whole

    def received(self, release: Release, folder: Path) -> int:
        """Return how many bytes of the bundle are here already, from a download that was interrupted."""
        part = folder / f"{release.bundle.sha256}.part"
        return part.stat().st_size if part.exists() else 0

    def blob(self, release: Release, sha256: str, size: int, folder: Path) -> Path:
        """Return one file of a release, by its hash, verified. Raises `Stop`."""
        whole = folder / f"{sha256}.blob"
        if not (whole.is_file() and file_sha256(whole) == sha256):
            urls = self._beside(release, f"blobs/{sha256}")
            self._fetch(urls, Wanted(sha256, size), whole, BRIEF, self._settings.download_seconds / 2)
        return whole

    def checksums(self, release: Release, limit: int, held: Held | None = None) -> bytes:
        """Return the release's checksums document, at most `limit` bytes, with the signed hash. Raises `Stop`.

        Sources are asked first for what differs from the document that is `held`.
        """
        failure = "no source has files one by one"
        asked: list[tuple[str, bool, Callable[[bytes], bytes]]] = [
            ("checksums.gz", True, bytes),
            ("checksums", False, bytes),
        ]
        if held is not None:
            asked.insert(0, (f"changes/{held.release}.gz", True, partial(changes.apply, held.checksums)))
        end = time.monotonic() + self._settings.download_seconds / 2
        most = min(limit, bundle.CHECKSUMS_LIMIT)
        for top in self._beside(release, ""):
            for name, packed, read in asked:
                try:
                    data = read(self._client.document(top + name, most, end, packed=packed))
                except (SourceError, http.client.HTTPException, OSError, DecodeError) as error:
                    failure = f"{top}{name}: {sentence(error)}"
                    continue
                if hashlib.sha256(data).hexdigest() == release.checksums:
                    return data
                failure = f"{top}{name}: the checksums are not those that were signed"
        raise Stop(failure, check="checksums")

    def _urls(self, release: Release) -> list[str]:
        return [
            template.replace("{role}", release.role).replace("{release}", release.id)
            for template in self._templates
        ]

    def _beside(self, release: Release, name: str) -> list[str]:
        """URLs of what a source keeps beside its bundle; one whose bundle is called otherwise has nothing."""
        return [url.removesuffix("bundle") + name for url in self._urls(release) if url.endswith("/bundle")]

    def _fetch(
        self, urls: list[str], wanted: Wanted, whole: Path, patience: Patience, seconds: float
    ) -> None:
        part = whole.with_suffix(".part")
        turns = Turns(urls, patience, begun=part.exists())
        end = time.monotonic() + seconds
        pause = self._settings.backoff_base_seconds
        while True:
            for url in turns.begin():
                if turns.starts_anew(url):
                    disk.remove(part)
                if self._from(url, wanted, part, end, turns):
                    part.replace(whole)
                    disk.fsync_dir(whole.parent)
                    return
            if reason := turns.over():
                raise Stop(reason, check="bundle" if turns.corrupt else "download")
            # Jitter only spreads load, nothing is guessed by it.
            wait = pause * (0.5 + random.random() / 2)  # noqa: S311
            if time.monotonic() + wait > end:
                raise Stop(f"not downloaded within {seconds:g} s; {turns.failure}", check="download")
            self._sleep(wait)
            pause = min(pause * 2, self._settings.backoff_cap_seconds)

    def _from(self, url: str, wanted: Wanted, part: Path, end: float, turns: Turns) -> bool:
        before = part.stat().st_size if part.exists() else 0
        try:
            self._client.receive(url, wanted, part, end)
        except CorruptError as error:
            turns.wrong(url, str(error))
        except DeniedError as error:
            turns.denied(url, str(error))
        except (SourceError, http.client.HTTPException, OSError) as error:
            if isinstance(error, OSError) and disk.is_full(error):
                disk.remove(part)
                raise Stop("the disk is full", full=True) from None
            turns.failed(url, sentence(error))
            turns.gave(url, (part.stat().st_size if part.exists() else 0) - before)
        else:
            turns.gave(url, wanted.size - before)
            if file_sha256(part) == wanted.sha256:
                return True
            disk.remove(part)
            turns.mixed_or_wrong(url, "the bytes are not the ones that were signed")
        return False


def is_whole(path: Path, release: Release) -> bool:
    """Whether `path` is the release's archive."""
    try:
        return file_sha256(path) == release.bundle.sha256
    except OSError:
        return False


def file_sha256(path: Path) -> str:
    """Return the hash of a file's content. Raises `OSError`."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()
