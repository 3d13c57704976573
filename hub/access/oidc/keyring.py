"""What a provider publishes: its addresses and its keys, kept for a while and fetched again when they may have changed.

- Both are fetched when they are first needed, so a hub starts while the provider is away.
- They are fresh for as long as the provider says, within `LEAST_S` and `MOST_S`, else for `FRESH_S`.
- A token by an unknown key has them fetched once more, for keys are rotated; at most once in `AGAIN_S`, for such tokens
  cost nothing to make.
- When that fails, what there was counts for `STALE_S` more: a provider that is away locks nobody out. A fetch that
  failed is not tried again for `AGAIN_S`, and callers need not wait for one that is known to fail.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog

from hub.access.oidc.http import Answer, Ask, ProviderAway
from hub.access.oidc.settings import is_safe
from hub.access.oidc.tokens import Expected, SigningKey, UnknownKey, signing_keys, verify
from hub.errors import Unavailable

FRESH_S: Final = 600
LEAST_S: Final = 60
MOST_S: Final = 3_600
AGAIN_S: Final = 30
STALE_S: Final = 86_400
_OPTIONAL: Final = ("userinfo_endpoint", "end_session_endpoint")
_ADDRESSES: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri", *_OPTIONAL)
_log = structlog.get_logger("hub.oidc")


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What of the discovery document is used."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str = ""
    end_session_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Published(msgspec.Struct, frozen=True):
    """What the provider published, and until when it is fresh (s)."""

    metadata: Metadata
    keys: list[SigningKey]
    fresh_until: int


class Keyring:
    """What one issuer publishes. Thread-safe; `clock` gives ms."""

    def __init__(self, issuer: str, ask: Ask, clock: Callable[[], int]) -> None:
        self._issuer = issuer
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._found: Published | None = None
        self._tried_at: int | None = None

    def metadata(self) -> Metadata:
        """Return the provider's addresses. Raises `Unavailable`."""
        return self._published().metadata

    def verify(self, token: str, expected: Expected) -> dict[str, Any]:
        """Return the claims of a good token. Raises `Unauthorised`, and `Unavailable` when no keys can be had."""
        found = self._published()
        try:
            return verify(token, found.keys, expected, self._now())
        except UnknownKey:
            newer = self._newer(found)
            if newer is found:
                raise
            return verify(token, newer.keys, expected, self._now())

    def _now(self) -> int:
        return self._clock() // 1000

    def _published(self) -> Published:
        found = self._found
        if found is None or self._now() >= found.fresh_until:
            found = self._newer(found)
        return found

    def _newer(self, than: Published | None) -> Published:
        """Return what is published now, or `than` if that cannot be asked again yet. Raises `Unavailable`."""
        with self._lock:
            now = self._now()
            if self._found is not than and self._found is not None:
                return self._found  # somebody else has fetched it while this one waited
            if self._tried_at is None or not self._tried_at <= now < self._tried_at + AGAIN_S:
                self._tried_at = now
                try:
                    self._found = self._fetch(now)
                except ProviderAway as error:
                    _log.warning("the identity provider is away", issuer=self._issuer, error=str(error))
            found = self._found
        if found is None or now >= found.fresh_until + STALE_S:
            raise Unavailable(
                f"The identity provider {self._issuer} does not answer; try again, or use an API key.",
                rule="oidc_provider",
                retry_after=AGAIN_S,
            )
        return found

    def _fetch(self, now: int) -> Published:
        answer = self._ask(self._issuer.rstrip("/") + "/.well-known/openid-configuration", {}, None)
        metadata = read(answer, Metadata, "discovery document")
        if metadata.issuer != self._issuer:
            raise ProviderAway(f"its discovery document is of the issuer {metadata.issuer}")
        for name in _ADDRESSES:
            url = getattr(metadata, name)
            if not is_safe(url) and (url or name not in _OPTIONAL):
                raise ProviderAway(f"its {name} is not https")
        answer = self._ask(metadata.jwks_uri, {}, None)
        keys = signing_keys(read(answer, dict[str, Any], "set of keys"))
        if not keys:
            raise ProviderAway("its set of keys has none that is for signatures")
        age = FRESH_S if answer.max_age is None else min(max(answer.max_age, LEAST_S), MOST_S)
        return Published(metadata, keys, now + age)


def read(answer: Answer, kind: Any, name: str) -> Any:
    """Return the JSON of an answer as `kind`; `name` says what it is. Raises `ProviderAway`."""
    try:
        if answer.status == 200:
            return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    raise ProviderAway(f"its {name} cannot be read (status {answer.status})")
