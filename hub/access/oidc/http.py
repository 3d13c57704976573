"""What the hub asks a provider over HTTP: few small answers, no redirects, seconds each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, Protocol

import httpx2
import msgspec

TIMEOUT_S: Final = 5
LIMIT: Final = 512 * 1024
"""Bytes of an answer; a set of keys with certificates has about 20,000."""


class ProviderAway(Exception):  # noqa: N818  (named by outcome)
    """The provider cannot be reached, or does not answer as one."""


class Answer(msgspec.Struct, frozen=True):
    """What was answered."""

    status: int
    body: bytes
    max_age: int | None = None
    """Seconds for which it may be kept, as `Cache-Control` says."""


class Ask(Protocol):
    """A way to ask a provider."""

    def __call__(self, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None, /) -> Answer:
        """GET `url`, or POST the form. Raises `ProviderAway`."""


class Http:
    """Asks over the network; thread-safe. Certificates are checked as the system does, or by `SSL_CERT_FILE`."""

    def __init__(self) -> None:
        self._client = httpx2.Client(
            timeout=TIMEOUT_S, follow_redirects=False, headers={"Accept": "application/json"}
        )

    def __call__(self, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None) -> Answer:
        """Return the answer, whatever its status. Raises `ProviderAway`."""
        method, deadline = "GET" if form is None else "POST", time.monotonic() + TIMEOUT_S
        try:
            with self._client.stream(method, url, headers=headers, data=form) as got:
                body = b""
                for part in got.iter_bytes():
                    body += part
                    if len(body) > LIMIT or time.monotonic() > deadline:
                        raise ProviderAway(f"{url} answers too much, or too slowly")
                return Answer(got.status_code, body, _max_age(got.headers.get("cache-control", "")))
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise ProviderAway(f"{url} cannot be asked ({type(error).__name__}: {error})") from None

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


def _max_age(text: str) -> int | None:
    for part in text.lower().split(","):
        name, _, value = part.strip().partition("=")
        if name == "max-age" and value.isascii() and value.isdigit() and len(value) < 10:
            return int(value)
    return None
