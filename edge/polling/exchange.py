"""The exchange process: asks the hub over HTTP in the agent's name, on one connection, and ends when it is let go.

A process of its own, short-lived as the update process is: what speaks HTTP, and may hang at every step of it, does
not stay in the agent's memory and cannot keep it from its signals and its watchdog. It decides and believes nothing.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import ssl
import sys
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import msgspec

from edge import web
from edge.config import Paths
from edge.errors import EdgeError
from edge.identity.identity import NO_CHECK_TIME, Identity
from edge.machine import clock
from edge.machine.parent import die_with
from edge.polling.frames import Answer, Ask, pack, whole
from topics import codec
from topics.heard import HEADER

ASK_SECONDS: Final = 60
"""Longest time for one question, however slowly the answer comes: then the system ends this process."""
SILENCE_SECONDS: Final = 20.0
_READ: Final = 65536
_WORD: Final = 64


class Client:
    """Asks one hub. Keeps its connection from question to question; `silence` is the longest, in s."""

    def __init__(self, identity: Identity, silence: float = SILENCE_SECONDS) -> None:
        self._identity = identity
        self._silence = silence
        self._url = identity.device.http_url.rstrip("/")
        self._parts = web.hub_parts(self._url)
        self._connection: http.client.HTTPConnection | None = None
        self._offset = 0  # seconds by which the hub's clock is ahead of ours

    def answer(self, ask: Ask) -> Answer:
        """Return what the hub answers, or why it does not."""
        try:
            answer, date = self._request(ask)
            if answer.status == 401 and self._correct(date):
                answer, _ = self._request(ask)
            return answer
        except (OSError, http.client.HTTPException, UnicodeError, EdgeError) as error:
            text = str(error) or type(error).__name__
            return Answer(problem=f"no hub answers at {self._url} ({text}){clock.blamed(error)}")

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()

    def _request(self, ask: Ask) -> tuple[Answer, str]:
        if self._connection is None:
            self._connection = web.connect(self._parts, self._silence, lambda: self._tls(ask.clock_ok))
        headers = {"Authorization": f"Bearer {self._token(ask.body)}"}
        if ask.body is not None:
            headers["Content-Type"] = codec.MSGPACK
        if ask.etag:
            headers["If-None-Match"] = ask.etag
        method = "GET" if ask.body is None else "POST"
        self._connection.request(method, self._parts.path + ask.path, ask.body, headers)
        response = self._connection.getresponse()
        body = response.read(ask.limit + 1)
        media_type = response.headers.get_content_type()
        if len(body) > ask.limit:
            # What is left of it would be read as the next answer.
            self._connection.close()
        documents = (response.getheader(HEADER) or "")[:_WORD]
        answer = Answer(response.status, media_type, body, documents=documents)
        return answer, response.getheader("Date") or ""

    def _token(self, body: bytes | None) -> str:
        return self._identity.token(int(time.time()) + self._offset, os.urandom(8).hex(), body)

    def _tls(self, clock_ok: bool) -> ssl.SSLContext:
        context = web.checked(self._identity.folder / "ca.pem")
        if not clock_ok:
            context.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
        return context

    def _correct(self, date: str) -> bool:
        """Take the hub's time from its answer: a token made by a wrong clock is refused. True when it differs."""
        with contextlib.suppress(TypeError, ValueError):
            self._offset = int(parsedate_to_datetime(date).timestamp() - time.time())
        return abs(self._offset) > 30


def serve(root: Path, descriptor: int) -> None:
    """Answer what comes on the socket `descriptor` until the other side closes it. Raises `EdgeError`."""
    client = Client(Identity(Paths(root)))
    with socket.socket(fileno=descriptor) as channel, contextlib.suppress(ConnectionError):
        received = b""
        while piece := channel.recv(_READ):
            received += piece
            question = whole(received)
            if question is None:
                continue
            received = b""
            # Not a time-out of Python's: a name server that is silent, or an answer of one byte a second, ends too.
            signal.alarm(ASK_SECONDS)
            answer = client.answer(msgspec.msgpack.decode(question, type=Ask))
            signal.alarm(0)
            channel.sendall(pack(answer))


if __name__ == "__main__":
    # A terminal sends it to the agent as well, whose goodbye is still to be carried.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    root, handle, parent = sys.argv[1:]
    if not die_with(int(parent)):
        sys.exit(1)
    try:
        serve(Path(root), int(handle))
    except EdgeError as error:
        sys.exit(f"flaghoist-edge: {error}")
