"""An answer that is lost on its way is asked for once more, under the same key, so that nothing is done twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.hub.cli.conftest import Flaghoist

ID = "kiosk-7-3f2a9c1b5d4e"


class Losing(ThreadingHTTPServer):
    """A hub that takes every request in and answers only after `losses` of them."""

    losses = 1

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, bytes]] = []


class Handler(BaseHTTPRequestHandler):
    server: Losing

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.headers["Idempotency-Key"], body))
        if len(self.server.asked) <= self.server.losses:
            self.close_connection = True
            return
        answer = json.dumps({"id": ID, "state": "paused"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Losing]:
    with Losing() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("FLAGHOIST_URL", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("FLAGHOIST_TOKEN", "token")
        yield server
        server.shutdown()
        thread.join()


def test_a_lost_answer_is_asked_for_again_with_the_same_key(losing: Losing, flaghoist: Flaghoist) -> None:
    ran = flaghoist("release", "pause", ID, "--reason", "hot")
    assert ran.code == 0 and "paused" in ran.out
    first, second = losing.asked
    assert first == second and first[0]


def test_two_commands_have_keys_of_their_own(losing: Losing, flaghoist: Flaghoist) -> None:
    losing.losses = 0
    flaghoist("release", "pause", ID)
    flaghoist("release", "pause", ID)
    first, second = losing.asked
    assert first[0] != second[0]


def test_an_answer_that_is_lost_again_ends_the_command(losing: Losing, flaghoist: Flaghoist) -> None:
    losing.losses = 9
    ran = flaghoist("release", "pause", ID)
    assert ran.code == 4 and "cannot reach the hub" in ran.err and len(losing.asked) == 2
