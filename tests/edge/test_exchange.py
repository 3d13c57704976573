"""The process that asks the hub: as this device, on one connection, within a time, and gone with the agent."""

from __future__ import annotations

import email.utils
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from edge.config import Paths
from edge.identity import identity
from edge.identity.identity import Device
from edge.link import Disconnected
from edge.polling import process
from edge.polling.frames import Answer, Ask, pack, whole
from edge.polling.link import HttpsLink
from edge.polling.process import Exchange
from tests.edge.world import DEVICE, FLEET, Box
from tests.support.ports import held_port
from topics import codec, devicetoken
from topics.errors import DecodeError
from topics.heard import HEADER

KEY = SigningKey(b"\x05" * 32)
DAY = 86_400


class Hub:
    """Answers with what was asked, in JSON; its clock is `ahead` by some seconds."""

    def __init__(self) -> None:
        self.ahead = 0
        self.revoked = False
        self.documents = ""
        self.media_type = "text/plain; charset=utf-8"
        self.requests: list[dict[str, str]] = []
        self.connections: set[Any] = set()
        self.silent = threading.Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.connections.add(self.client_address)
                hub.requests.append({"line": self.requestline, **dict(self.headers)})
                size = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(size) or self.path.encode()
                if self.path == "/hang":
                    hub.silent.wait()
                if self.path == "/long":
                    body = b"x" * 100_000
                self.send_response_only(hub.status(self.headers["Authorization"].split()[1]))
                self.send_header("Date", email.utils.formatdate(hub.now, usegmt=True))
                self.send_header("Content-Type", hub.media_type)
                if hub.documents:
                    self.send_header(HEADER, hub.documents)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815  (the name is the library's)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def now(self) -> int:
        return int(time.time()) + self.ahead

    def status(self, token: str) -> int:
        try:
            claims = devicetoken.verify(token, bytes(KEY.verify_key), FLEET, self.now)
        except DecodeError:
            return 401
        assert claims.sub == DEVICE
        return 401 if self.revoked else 200

    def close(self) -> None:
        self.silent.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.close()


def enrolled(root: Path, url: str) -> Paths:
    paths = Paths(root)
    paths.make()
    device = Device(fleet=FLEET, device_id=DEVICE, mqtt_host="", mqtt_port=1, http_url=url)
    identity.write(paths, device, seed=bytes(KEY), certificate_pem="", ca_pem="", unique="1")
    return paths


@pytest.fixture
def exchange(tmp_path: Path, hub: Hub) -> Iterator[Exchange]:
    made = Exchange(process.command(enrolled(tmp_path, hub.url + "/")))
    yield made
    made.let_go()


def ask(exchange: Exchange, question: Ask) -> Answer:
    exchange.ask(question)
    while True:
        assert exchange.channel is not None
        assert select.select([exchange.channel], [], [], 60)[0]
        answer = exchange.read()
        if answer is not None:
            return answer


def test_questions_are_asked_as_the_device_on_one_connection(hub: Hub, exchange: Exchange) -> None:
    first = ask(exchange, Ask("/devices/a/desired", 1000, etag='"ab"'))
    assert first == Answer(200, "text/plain", b"/devices/a/desired")
    body = codec.MSGPACK.encode() * 1000
    assert ask(exchange, Ask("/telemetry/status", 20_000, body)).body == body
    got, posted = hub.requests
    assert (got["line"], got["If-None-Match"]) == ("GET /devices/a/desired HTTP/1.1", '"ab"')
    assert (posted["line"], posted["Content-Type"]) == ("POST /telemetry/status HTTP/1.1", codec.MSGPACK)
    assert len(hub.connections) == 1


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param("0f" * 16, "0f" * 16, id="a word"),
        pytest.param("x" * 10_000, "x" * 64, id="more than any word has"),
    ],
)
def test_what_the_hub_says_of_its_documents_is_handed_on(
    hub: Hub, exchange: Exchange, said: str, heard: str
) -> None:
    hub.documents = said
    assert ask(exchange, Ask("/telemetry/status", 1000, b"\x80")).documents == heard


def test_a_clock_that_is_wrong_is_corrected_by_the_hubs(hub: Hub, exchange: Exchange) -> None:
    hub.ahead = 7 * DAY
    assert [ask(exchange, Ask("/a", 100)).status for _ in range(2)] == [200, 200]
    assert len(hub.requests) == 3, "refused once, and never again"


def test_a_revoked_device_is_refused_once(hub: Hub, exchange: Exchange) -> None:
    hub.revoked = True
    assert ask(exchange, Ask("/a", 100)).status == 401
    assert len(hub.requests) == 1


def test_an_answer_over_its_limit_is_cut_and_spoils_no_other(hub: Hub, exchange: Exchange) -> None:
    assert len(ask(exchange, Ask("/long", 1000)).body) == 1001
    assert ask(exchange, Ask("/after", 1000)).body == b"/after"


def test_where_nobody_answers_the_hub_is_named(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{held_port()}"
    exchange = Exchange(process.command(enrolled(tmp_path, url)))
    answer = ask(exchange, Ask("/a", 100))
    exchange.let_go()
    assert answer == Answer(problem=f"no hub answers at {url} ([Errno 111] Connection refused)")


def test_an_answer_that_never_comes_is_given_up(hub: Hub, tmp_path: Path) -> None:
    paths = enrolled(tmp_path, hub.url)
    quick = (
        "import sys; from pathlib import Path; from edge.polling import exchange; exchange.ASK_SECONDS = 1; "
    )
    code = f"{quick} exchange.serve(Path(sys.argv[1]), int(sys.argv[2]))"
    exchange = Exchange(lambda handle: [sys.executable, "-c", code, str(paths.root), str(handle)])
    assert ask(exchange, Ask("/hang", 100)) == Answer(problem="the hub's answer takes too long")
    assert exchange.channel is None
    assert ask(exchange, Ask("/again", 100)).status == 200
    exchange.let_go()


def test_the_process_ends_with_the_agent(hub: Hub, tmp_path: Path) -> None:
    command = process.command(enrolled(tmp_path, hub.url))
    ours, theirs = socket.socketpair()
    running = subprocess.Popen(command(theirs.fileno()), pass_fds=(theirs.fileno(),))
    theirs.close()
    ours.sendall(pack(Ask("/a", 100)))
    assert ours.recv(1)
    ours.close()
    assert running.wait(60) == 0


def test_a_process_that_fails_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exchange = Exchange(process.command(Paths(tmp_path)))
    assert ask(exchange, Ask("/a", 100)) == Answer(problem="the process that asks the hub ended with 1")
    said = capfd.readouterr().err
    assert said == f"flaghoist-edge: {tmp_path} holds no identity; run flaghoist-edge enrol first\n"


def test_a_question_that_is_not_taken_at_once_waits(tmp_path: Path) -> None:
    exchange = Exchange(lambda _handle: ["sleep", "600"])
    exchange.ask(Ask("/a", 100, b"x" * 10_000_000))
    assert exchange.wants_write
    exchange.writable()
    assert (exchange.wants_write, exchange.read()) == (True, None)
    exchange.let_go()
    assert not exchange.wants_write


def test_where_no_process_can_be_started_the_connection_is_lost(tmp_path: Path) -> None:
    box = Box(tmp_path)
    link = HttpsLink(Exchange(lambda _h: ["/none/such"]), FLEET, DEVICE, lambda: box.memory)
    link.open()
    reason = "no process can be started to ask the hub: No such file or directory"
    assert link.events() == [Disconnected(reason)]
    assert (link.socket(), link.deadline) == (None, None)
    box.close()


def test_frames_come_in_pieces() -> None:
    frame = pack(Answer(200, "a/b", b"x" * 300))
    assert [whole(frame[:size]) for size in (0, 3, 4, len(frame) - 1)] == [None] * 4
    assert whole(frame + frame) == frame[4:]
