"""A receiver of Loki's push API that checks every push against the documented format.

https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
NANOSECONDS = re.compile(r"[0-9]{19}\Z")


class WrongFormatError(AssertionError):
    """A push that Loki would not take, or not take as it is meant."""


def check(path: str, headers: Any, body: bytes) -> list[tuple[dict[str, str], str, str]]:
    """Return (labels, time-stamp, line) of a push; raises `WrongFormatError`."""

    def need(true: object, what: str) -> None:
        if not true:
            raise WrongFormatError(what)

    need(path == "/loki/api/v1/push", f"path {path}")
    need(headers["Content-Type"] == "application/json", "Content-Type")
    need(headers["Content-Encoding"] == "gzip", "Content-Encoding")
    need(int(headers["Content-Length"]) == len(body), "Content-Length")
    push = json.loads(gzip.decompress(body))
    need(isinstance(push, dict) and set(push) == {"streams"}, "only `streams`")
    need(isinstance(push["streams"], list) and push["streams"], "a list of streams")
    found = []
    seen = set()
    for entry in push["streams"]:
        need(set(entry) == {"stream", "values"}, "`stream` and `values`")
        labels, values = entry["stream"], entry["values"]
        need(isinstance(labels, dict) and labels, "labels")
        need(all(LABEL.match(key) for key in labels), f"label names {labels}")
        need(all(isinstance(value, str) and value for value in labels.values()), f"label values {labels}")
        need(frozenset(labels.items()) not in seen, "each stream once")
        seen.add(frozenset(labels.items()))
        need(isinstance(values, list) and values, "values")
        for value in values:
            need(isinstance(value, list) and len(value) == 2, "pairs")
            need(all(isinstance(part, str) for part in value), "text on both sides of a pair")
            need(NANOSECONDS.match(value[0]), f"nanoseconds, not {value[0]}")
            found.append((labels, value[0], value[1]))
        stamps = [int(value[0]) for value in values]
        need(stamps == sorted(stamps), "oldest first within a stream")
    return found


class Receiver:
    """Takes pushes. `answers` are the statuses of the next ones, 204 after them; 0 closes without an answer."""

    def __init__(self, port: int = 0) -> None:
        self.answers: list[int] = []
        self.wrong: list[str] = []
        self.taken: list[tuple[dict[str, str], str, str]] = []
        self.pushes = 0
        self.hang = threading.Event()
        self.hang.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer._push(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def _push(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.pushes += 1
        self.hang.wait(20)
        status = self.answers.pop(0) if self.answers else 204
        if status == 0:
            handler.close_connection = True
            return
        try:
            found = check(handler.path, handler.headers, body)
        except (WrongFormatError, ValueError, KeyError, TypeError) as error:
            self.wrong.append(repr(error))
            status, found = 400, []
        if status == 204:
            self.taken += found
        handler.send_response(status)
        if status != 204:
            handler.send_header("Content-Length", "4")
            handler.send_header("Location", "/elsewhere")
        handler.end_headers()
        if status != 204:
            handler.wfile.write(b"told")


@contextmanager
def receiver(port: int = 0) -> Iterator[Receiver]:
    """Run a receiver."""
    made = Receiver(port)
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.hang.set()
        made.server.shutdown()
        made.server.server_close()
        thread.join()
