"""Connections to sources: kept while that is safe, replaced without a word when the other side closed them."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from edge.download.connections import DRAINED, MOST, Connections
from edge.download.fetch import Fetcher, Sources
from edge.download.paced import Paced
from tests.edge.blobs import by_path, layout
from tests.edge.world import QUICK, build
from tests.support import tls
from topics.documents import Release

FAR = 2.0**40
"""A monotonic time that does not come."""
Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Speaks HTTP/1.1 and keeps its connections, as the hub does."""

    protocol_version = "HTTP/1.1"
    server: Keeping

    def do_GET(self) -> None:
        self.server.asked.append((self.client_address[1], self.path))
        answer = self.server.answers.pop(0) if self.server.answers else None
        if answer:
            answer(self)
        else:
            self.say(200 if self.path in self.server.files else 404, self.server.files.get(self.path, b"no"))

    def say(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        pass


class Keeping(ThreadingHTTPServer):
    """Serves `files`; `answers` are used up one per request. `asked` holds the other side's port and the path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {f"/{n}": b"body %d" % n for n in range(9)}
        self.answers: list[Answer] = []
        self.asked: list[tuple[int, str]] = []
        self.resumed: list[bool] = []
        self.context: ssl.SSLContext | None = None
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.context:
            request = self.context.wrap_socket(request, server_side=True)
            self.resumed.append(request.session_reused)
        super().finish_request(request, client_address)
        if self.context:
            request.close()

    def handle_error(self, *_: Any) -> None:
        pass

    @property
    def connections(self) -> int:
        return len({port for port, _ in self.asked})

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


@pytest.fixture
def keeping() -> Iterator[Keeping]:
    made = Keeping()
    yield made
    made.close()


@pytest.fixture
def connections() -> Connections:
    return Connections(ssl.create_default_context, 30, 1)


def get(connections: Connections, server: Keeping, path: str, *, scheme: str = "http") -> bytes:
    parts = urlsplit(f"{scheme}://localhost:{server.server_port}{path}")
    with connections.get(parts, {}, FAR) as response:
        return response.read()


def test_requests_to_one_source_share_a_connection(keeping: Keeping, connections: Connections) -> None:
    assert [get(connections, keeping, f"/{n}") for n in range(5)] == [b"body %d" % n for n in range(5)]
    assert keeping.connections == 1


def close_unsaid(handler: Handler) -> None:
    handler.say(200, b"last")
    handler.close_connection = True


def hang_up(handler: Handler) -> None:
    """Close instead of answering, as a server does whose idle time ended just now."""
    handler.close_connection = True


ENDINGS = [
    pytest.param([close_unsaid], 2, id="closed behind an answer"),
    pytest.param([None, hang_up], 2, id="closed at the next request"),
]


@pytest.mark.parametrize(("answers", "used"), ENDINGS)
def test_a_kept_connection_that_was_closed_is_replaced(
    keeping: Keeping, connections: Connections, answers: list[Answer], used: int
) -> None:
    keeping.answers = answers
    assert get(connections, keeping, "/1") in (b"last", b"body 1")
    assert get(connections, keeping, "/2") == b"body 2"
    assert keeping.connections == used


def test_a_new_connection_that_is_closed_is_the_sources_failure(
    keeping: Keeping, connections: Connections
) -> None:
    """Else a source that always hangs up would be asked for ever."""
    keeping.answers = [hang_up] * 2
    with pytest.raises(ConnectionError):
        get(connections, keeping, "/1")
    assert len(keeping.asked) == 1


def test_a_kept_connection_is_replaced_once_only(keeping: Keeping, connections: Connections) -> None:
    get(connections, keeping, "/1")
    keeping.answers = [hang_up] * 5
    with pytest.raises(ConnectionError):
        get(connections, keeping, "/2")
    assert len(keeping.asked) == 3


UNREAD = [
    pytest.param(lambda handler: handler.say(404, b"x" * DRAINED), 1, id="a short page is read"),
    pytest.param(lambda handler: handler.say(404, b"x" * (DRAINED + 1)), 2, id="a long page is not"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "used"), UNREAD)
def test_what_was_not_read_never_becomes_the_next_answer(
    keeping: Keeping, connections: Connections, answer: Answer, used: int
) -> None:
    keeping.answers = [answer]
    with connections.get(urlsplit(f"http://localhost:{keeping.server_port}/1"), {}, FAR):
        pass
    assert get(connections, keeping, "/2") == b"body 2"
    assert keeping.connections == used


def test_no_more_connections_are_kept_than_the_sources_used_last(connections: Connections) -> None:
    servers = [Keeping() for _ in range(MOST + 1)]
    try:
        for server in [*servers, servers[-1], servers[0]]:
            get(connections, server, "/1")
        assert [server.connections for server in servers] == [2, *[1] * MOST]
    finally:
        for server in servers:
            server.close()


def test_a_new_tls_connection_resumes_the_session_of_the_one_before(keeping: Keeping, tmp_path: Path) -> None:
    keeping.context, ca = tls.server(tmp_path)
    made = []

    def trusting() -> ssl.SSLContext:
        made.append(ssl.create_default_context(cafile=ca))
        return made[-1]

    connections = Connections(trusting, 30, 1)
    keeping.answers = [close_unsaid]
    for path in ("/1", "/2", "/3"):
        get(connections, keeping, path, scheme="https")
    assert keeping.connections == 2
    assert keeping.resumed == [False, True]
    assert len(made) == 1, "certificates are loaded once"


def test_slowness_counts_from_each_request_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a source was slow at before, or an idle time, is not held against its next answer."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    ours, theirs = socket.socketpair()
    paced = Paced(ours, 30, 1000)
    paced.begin(100.0)
    with ours, theirs, paced.makefile() as file:
        theirs.sendall(bytes(50))
        now = 31.0
        with pytest.raises(TimeoutError, match="less than 1000 bytes/s"):
            file.read(10)
        paced.begin(100.0)
        assert file.read(50) == bytes(50)
        now = 100.0
        with pytest.raises(TimeoutError, match="time for downloading is over"):
            file.read(10)


def test_an_update_of_one_file_opens_one_connection(keeping: Keeping, tmp_path: Path) -> None:
    built = build(8, {f"files/{n}": b"%d" % n * 500 for n in range(3)})
    keeping.files = layout(built)
    url = f"http://127.0.0.1:{keeping.server_port}"
    sources = Sources([url + "/artifacts/{role}/{release}/bundle"], url, lambda _: "t", lambda: None)  # type: ignore[arg-type, return-value]
    fetcher = Fetcher(QUICK, sources, lambda: 0)
    release: Release = built.release
    fetcher.checksums(release, 100_000)
    for path, size in (("files/1", 500), ("files/2", 500)):
        fetcher.blob(release, by_path(built)[path], size, tmp_path)
    fetcher.fetch(release, tmp_path)
    assert (len(keeping.asked), keeping.connections) == (4, 1)
