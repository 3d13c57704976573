"""Takes secrets out of what leaves the device for support: known ones in every spelling, and what looks like one.

Known are the device's key, the values in `device.env`, and every file of the secrets' folders. A value shorter than
`SHORTEST` bytes is left: it would be found everywhere, and hides nothing from whoever tries.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from edge import config
from edge.config import Paths, Settings
from edge.errors import NotReady
from edge.updating import secrets

SHORTEST: Final = 4
MARK: Final = b"[removed]"
_LOOKS_LIKE: Final = (
    re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.S),
    re.compile(rb"\beyJ[\w-]+\.[\w-]+\.[\w-]+"),
    re.compile(rb"\bfh1\.[\w.~-]+"),
    re.compile(rb"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),
    re.compile(rb"(?i)(?<=bearer )\S+"),
    re.compile(
        rb"(?i)(?:password|passwd|passphrase|secret|token|api[_-]?key)[\"']?\s*[=:]\s*[\"']?(?!\[removed)([^\s\"',;]+)"
    ),
)
"""Private keys, JWTs, enrolment tokens, names and passwords in URLs, bearer tokens, and values by telling names."""


class Scrubber:
    """Knows what must not leave the device."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        spelt = {spelling for secret in secrets for spelling in spellings(secret)}
        # The longest first: one secret may be part of another.
        self._known = sorted(spelt, key=len, reverse=True)

    def clean(self, data: bytes) -> bytes:
        """Return `data` without any of it."""
        for secret in self._known:
            data = data.replace(secret, MARK)
        for pattern in _LOOKS_LIKE:
            data = pattern.sub(_without, data)
        return data


def _without(match: re.Match[bytes]) -> bytes:
    if not match.re.groups:
        return MARK
    start = match.start(1) - match.start()
    return match[0][:start] + MARK


def spellings(secret: bytes) -> Iterator[bytes]:
    """Yield a secret as it may stand in a text: itself, in JSON, in a URL, in hex, in both kinds of base64."""
    if len(secret) < SHORTEST:
        return
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield base64.b64encode(secret).rstrip(b"=")
    yield base64.urlsafe_b64encode(secret).rstrip(b"=")
    with contextlib.suppress(UnicodeDecodeError):
        text = secret.decode()
        yield json.dumps(text)[1:-1].encode()
        yield quote(text, safe="").encode()


def known(paths: Paths, environ: Mapping[str, str] = os.environ) -> list[bytes]:
    """Return this device's secrets, as far as they can be read."""
    found = [seed for path in _keys(paths) for seed in _seeds(path)]
    with contextlib.suppress(OSError):
        for line in (paths.root / "device.env").read_bytes().splitlines():
            name, is_set, value = line.strip().partition(b"=")
            if is_set and not name.startswith(b"#"):
                found += [value, value.strip(b"\"' ")]
    try:
        settings = config.load_settings(paths.root)
    except NotReady:
        settings = Settings()
    for folder, _ in secrets.of(paths, settings, environ).folders:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
            with contextlib.suppress(OSError):
                content = path.read_bytes()
                found += [content, content.strip(), *(line.strip() for line in content.splitlines())]
    return found


def _keys(paths: Paths) -> list[Path]:
    return [*paths.root.glob("identity*/key.pem"), paths.root / "enrolling.key"]


def _seeds(path: Path) -> Iterator[bytes]:
    with contextlib.suppress(OSError, ValueError):
        data = path.read_bytes()
        yield data
        body = b"".join(line for line in data.splitlines() if not line.startswith(b"-----"))
        if data.startswith(b"-----"):
            yield body
            der = base64.b64decode(body, validate=True)
            yield der
            yield der[-32:]
