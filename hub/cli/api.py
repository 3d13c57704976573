"""The hub's HTTP API as the operator's command sees it: typed answers, or one sentence why not."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click
import httpx2
import msgspec

from hub.cli.errors import Refused, Unreachable
from hub.errors import SetupError

T = TypeVar("T")

TIMEOUT = httpx2.Timeout(30.0, connect=5.0)


class Problem(msgspec.Struct, frozen=True):
    """An `application/problem+json` body (RFC 9457), every field optional as the RFC has it.

    `errors` is the hub's own: what was wrong with a body, objects with a `message` and mostly a `key`.
    """

    title: str = ""
    detail: str = ""
    rule: str = ""
    errors: Any = None

    @property
    def words(self) -> str:
        """What to tell a person: the detail, else the title, and the first of the errors."""
        found = (self.detail or self.title).rstrip(".")
        first = self.errors[0] if isinstance(self.errors, list) and self.errors else None
        if not isinstance(first, dict) or not first.get("message"):
            return found
        key = f"{first['key']}: " if first.get("key") else ""
        return f"{found}: {key}{str(first['message']).rstrip('.')}"


class HubRefused(Refused):
    """The hub answered with a problem. `status` is the HTTP status, `rule` the rule that refused, if any."""

    def __init__(self, sentence: str, status: int, rule: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.rule = rule


class Hub:
    """A connection to one hub, named by its URL. Every method raises `HubRefused` or `Unreachable`."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.strip().rstrip("/")
        if not _is_address(self.url):
            raise click.UsageError(
                f"{url!r} is not the address of a hub; it looks like http://hub.example:8080"
            )
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # Redirects are not followed: they would carry the token to wherever they point.
        try:
            self._client = httpx2.Client(base_url=self.url, headers=headers, timeout=TIMEOUT)
        except OSError as error:
            raise SetupError(
                f"cannot read the certificates that SSL_CERT_FILE or SSL_CERT_DIR names ({error.strerror}); "
                "give a PEM file of the hub's CA"
            ) from None
        except (httpx2.InvalidURL, ValueError, ImportError):
            raise SetupError(
                "cannot use the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names; "
                "give one like http://proxy.example:3128, or name the hub in NO_PROXY"
            ) from None

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def get(self, path: str, **query: str | int | None) -> bytes:
        """Return the body that `path` answers with."""
        given = {key: value for key, value in query.items() if value is not None}
        return self._send("GET", path, params=given)

    def get_tagged(self, path: str, kind: type[T]) -> tuple[T, str]:
        """Return what `path` answers with as a `kind`, and its ETag for `patch`."""
        answer = self._ask("GET", path)
        if "etag" not in answer.headers:
            raise self._not_a_hub()
        return self.read(answer.content, kind), answer.headers["etag"]

    def patch(self, path: str, body: Any, *, etag: str) -> bytes:
        """Change what `path` names if it still has `etag` (else `HubRefused` with 412). Returns the answer's body."""
        headers = {"Content-Type": "application/json", "If-Match": etag}
        return self._send("PATCH", path, content=msgspec.json.encode(body), headers=headers)

    def delete(self, path: str) -> None:
        """Delete what `path` names."""
        self._send("DELETE", path)

    def post(self, path: str, body: Any) -> bytes:
        """Post `body` as JSON and return the answer's body. Where the answer is lost it is asked for once more.

        Both carry one Idempotency-Key, so that the hub does once what it is asked.
        """
        headers = {"Content-Type": "application/json", "Idempotency-Key": secrets.token_hex(16)}
        request: dict[str, Any] = {"content": msgspec.json.encode(body), "headers": headers}
        with self._reaching():
            try:
                answer = self._client.request("POST", path, **request)
            except (httpx2.ReadError, httpx2.RemoteProtocolError):
                answer = self._client.request("POST", path, **request)
        return self._checked(answer).content

    def post_bytes(self, path: str, chunks: bytes | Iterable[bytes], size: int, content_type: str) -> bytes:
        """Post `size` raw bytes, streamed when `chunks` is an iterable. Returns the answer's body."""
        headers = {"Content-Type": content_type, "Content-Length": str(size)}
        return self._send("POST", path, content=chunks, headers=headers)

    def holds(self, path: str, etag: str) -> bool:
        """Return whether what the hub has at `path` is whole and has the strong `etag`; nothing is downloaded."""
        with self._reaching(), self._client.stream("GET", path, headers={"If-None-Match": etag}) as answer:
            if answer.status_code == 304:
                return True
            if answer.is_success:
                return False
            answer.read()
        damaged = _problem(answer).rule == "artifact_damaged"
        if answer.status_code == 404 or damaged:
            return False
        raise self._refusal(answer)

    def stream(self, path: str) -> Iterator[bytes]:
        """Yield the body that `path` answers with, in chunks."""
        with self._reaching(), self._client.stream("GET", path) as answer:
            if not answer.is_success:
                answer.read()
                raise self._refusal(answer)
            yield from answer.iter_raw()

    def items(self, path: str, **query: str | int | None) -> Iterator[Any]:
        """Yield the items of every page of a list."""
        cursor: str | None = None
        while True:
            page = self.read(self.get(path, **query, cursor=cursor), _Page)
            yield from page.items
            if page.next_cursor is None:
                return
            cursor = page.next_cursor

    def read(self, body: bytes, kind: type[T]) -> T:
        """Return an answer's body as a `kind`; raises `Unreachable` when it is something else."""
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self._not_a_hub() from None

    def _send(self, method: str, path: str, **request: Any) -> bytes:
        return self._ask(method, path, **request).content

    def _ask(self, method: str, path: str, **request: Any) -> httpx2.Response:
        with self._reaching():
            answer = self._client.request(method, path, **request)
        return self._checked(answer)

    def _checked(self, answer: httpx2.Response) -> httpx2.Response:
        if answer.is_success:
            return answer
        raise self._refusal(answer)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx2.TimeoutException:
            raise Unreachable(
                f"the hub at {self.url} did not answer in time; try again, and look at its log if it stays so"
            ) from None
        except (httpx2.TransportError, httpx2.DecodingError, httpx2.InvalidURL) as error:
            raise Unreachable(
                f"cannot reach the hub at {self.url} ({_cause(error)}); "
                "check the address and that flaghoist-hub is running"
            ) from None

    def _refusal(self, answer: httpx2.Response) -> HubRefused | Unreachable:
        if answer.status_code in (502, 503, 504):
            said = _problem(answer)
            return Unreachable(
                f"the hub at {self.url} is not ready ({said.detail.rstrip('.') or answer.status_code}); "
                "ask its /health/ready, and try again"
            )
        if answer.is_redirect:
            return Unreachable(
                f"{self.url} redirects to {answer.headers.get('location', 'nowhere')}; give that address as the hub's"
            )
        problem = _problem(answer)
        if answer.status_code == 401:
            return HubRefused(
                f"the hub at {self.url} does not accept this token; "
                "set FLAGHOIST_TOKEN or --token-file to the text of the hub's admin.token",
                401,
                problem.rule,
            )
        if not (problem.detail or problem.title):
            return self._not_a_hub(answer.status_code)
        rule = f" (rule {problem.rule})" if problem.rule else ""
        outcome = "failed" if answer.is_server_error else "refused"
        return HubRefused(f"the hub {outcome}: {problem.words}{rule}", answer.status_code, problem.rule)

    def _not_a_hub(self, status: int | None = None) -> Unreachable:
        what = "something else" if status is None else f"status {status} and no reason"
        return Unreachable(
            f"{self.url} answers with {what}, so it is not a hub that this command knows; check the address"
        )


def _is_address(url: str) -> bool:
    try:
        parsed = httpx2.URL(url)
        url.encode()
        # What the socket does with a host, only later and with an exception of its own.
        parsed.host.encode("idna")
    except (httpx2.InvalidURL, UnicodeError):
        return False
    # A query would swallow every path; a password would stand in each sentence that names the hub.
    extra = parsed.query or parsed.fragment or parsed.userinfo or any(char.isspace() for char in url)
    return parsed.scheme in ("http", "https") and bool(parsed.host) and not extra


class _Page(msgspec.Struct, frozen=True):
    items: list[Any]
    next_cursor: str | None = None


def _problem(answer: httpx2.Response) -> Problem:
    try:
        return msgspec.json.decode(answer.content, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Problem()


def _cause(error: Exception) -> str:
    text = str(error).strip()
    # "[Errno 111] Connection refused" is for programs; people need the words.
    return text.partition("] ")[2] or text or type(error).__name__
