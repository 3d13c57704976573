"""The authorization code flow with PKCE, from the hub's side: where to send a browser, and what its code is worth."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from hub.access.oidc.http import Answer, Ask, ProviderAway
from hub.access.oidc.keyring import Keyring, read
from hub.access.oidc.pending import Pending
from hub.access.oidc.roles import Person, claim_at, person_of, role_of
from hub.access.oidc.settings import Oidc
from hub.access.oidc.tokens import Expected
from hub.errors import Forbidden, Unauthorised, Unavailable

AT_ONCE: Final = 4
"""Codes that are exchanged at a time. Who has begun a login may send any code, and each holds a thread."""


class Recognised(msgspec.Struct, frozen=True):
    """Somebody, their role here, and what they were recognised by; `id_token` is "" for whoever brought their own."""

    person: Person
    role: str
    id_token: str = ""


class _Tokens(msgspec.Struct):
    id_token: str
    access_token: str = ""


class Provider:
    """The provider that people log in at. Thread-safe; `clock` gives ms, `redirect_uri` is where it sends them back."""

    def __init__(self, settings: Oidc, ask: Ask, clock: Callable[[], int], redirect_uri: str) -> None:
        self.settings = settings
        self._ask = ask
        self._keyring = Keyring(settings.issuer, ask, clock)
        self._redirect_uri = redirect_uri
        self._slots = threading.BoundedSemaphore(AT_ONCE)

    def bearer(self, token: str) -> Recognised:
        """Return whose token this is. Raises `Unauthorised`, `Forbidden` for somebody without a role, `Unavailable`."""
        audiences = (self.settings.audience,) if self.settings.audience else ()
        return self._with_role(self._keyring.verify(token, self._expected(*audiences)), "")

    def authorization_url(self, pending: Pending) -> str:
        """Return where a browser begins to log in. Raises `Unavailable`."""
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": self.settings.scopes,
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": challenge(pending.verifier),
            "code_challenge_method": "S256",
        }
        return _with_query(self._keyring.metadata().authorization_endpoint, asked)

    def finish(self, pending: Pending, code: str, issuer: str | None) -> Recognised:
        """Return who logged in by `code`; `issuer` is what came beside it (RFC 9207).

        Raises `Unauthorised`, `Forbidden` for somebody without a role, `Unavailable`.
        """
        metadata = self._keyring.metadata()
        # Where several providers share a redirect address, a code of one could be fed to another.
        if issuer != self.settings.issuer and (
            issuer is not None or metadata.authorization_response_iss_parameter_supported
        ):
            raise Unauthorised("The code is not from the identity provider.", rule="oidc_issuer")
        if not self._slots.acquire(blocking=False):
            raise Unavailable(
                "Many people log in at this moment; try again.", rule="oidc_provider", retry_after=1
            )
        try:
            tokens = self._exchange(pending, code)
            claims = self._keyring.verify(tokens.id_token, self._expected())
            if not same(claims.get("nonce"), pending.nonce):
                raise Unauthorised("The ID token is of another login; log in again.", rule="oidc_nonce")
            claims = self._completed(claims, tokens.access_token)
        except ProviderAway as error:
            raise Unavailable(
                f"The identity provider does not answer as one: {error}.", rule="oidc_provider", retry_after=5
            ) from None
        finally:
            self._slots.release()
        return self._with_role(claims, tokens.id_token)

    def end_session_url(self, id_token: str, back_to: str) -> str | None:
        """Return where a browser logs out at the provider too, None when it offers nothing or cannot be asked."""
        try:
            url = self._keyring.metadata().end_session_endpoint
        except Unavailable:
            return None
        asked = {"client_id": self.settings.client_id, "post_logout_redirect_uri": back_to}
        if id_token:
            asked["id_token_hint"] = id_token
        return _with_query(url, asked) if url else None

    def _expected(self, *audiences: str) -> Expected:
        return Expected(self.settings.issuer, self.settings.client_id, audiences)

    def _exchange(self, pending: Pending, code: str) -> _Tokens:
        metadata, headers = self._keyring.metadata(), {}
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": pending.verifier,
        }
        secret = self.settings.client_secret
        methods = metadata.token_endpoint_auth_methods_supported
        if secret and ("client_secret_basic" in methods or "client_secret_post" not in methods):
            # RFC 6749, 2.3.1: both are encoded before they are joined.
            pair = f"{quote(self.settings.client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = self.settings.client_id
            if secret:
                form["client_secret"] = secret
        answer = self._ask(metadata.token_endpoint, headers, form)
        if answer.status in (400, 401):
            # A code that is spent, and also a secret that is not the client's: the word says which.
            raise Unauthorised(
                f"The identity provider does not take the code ({error_of(answer)}); log in again.",
                rule="oidc_code",
            )
        tokens: _Tokens = read(answer, _Tokens, "answer to a code")
        return tokens

    def _completed(self, claims: dict[str, Any], access_token: str) -> dict[str, Any]:
        """Return the claims with what only the userinfo endpoint tells: some providers keep ID tokens short."""
        url = self._keyring.metadata().userinfo_endpoint
        if claim_at(claims, self.settings.role_claim) is not None or not url or not access_token:
            return claims
        answer = self._ask(url, {"Authorization": f"Bearer {access_token}"}, None)
        more: dict[str, Any] = read(answer, dict[str, Any], "user info")
        if more.get("sub") != claims["sub"]:
            raise Unauthorised("The user info is of somebody else.", rule="oidc_subject")
        return {**more, **claims}

    def _with_role(self, claims: dict[str, Any], id_token: str) -> Recognised:
        person = person_of(claims)
        role = role_of(claims, self.settings.role_claim, self.settings.roles)
        if role is None:
            raise Forbidden(
                f"{person.name} has no role here; the claim {self.settings.role_claim} gives none.",
                rule="oidc_role",
                subject=person.subject,
            )
        return Recognised(person, role, id_token)


def error_of(answer: Answer) -> str:
    """Return the error that a token endpoint names (RFC 6749, 5.2)."""
    try:
        return error_word(str(msgspec.json.decode(answer.body, type=dict[str, Any]).get("error")))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return "no reason"


def error_word(text: str) -> str:
    """Return an error's name as it may stand in a sentence: whoever sent it may have written anything."""
    return "".join(sign for sign in text[:64] if sign.isalnum() or sign in "_-")


def challenge(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636).

    >>> challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'
    """
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def same(given: Any, expected: str) -> bool:
    """Whether a text that somebody sent is the expected one, in a time that tells nothing of where they differ."""
    return isinstance(given, str) and hmac.compare_digest(given.encode(), expected.encode())


def _with_query(url: str, asked: dict[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(asked)}"
