"""Bytes that a one-file change moves, all of them: every byte of the TCP streams in either direction is counted.

The source is a web server that keeps connections and sends the headers that the hub does; over TLS it shows one P-256
certificate, as the hub's own CA makes them.
"""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from edge.config import Paths, Settings
from edge.download import delta
from edge.download.fetch import Fetcher, Sources
from edge.updating import stage
from tests.edge.blobs import layout, lead
from tests.edge.world import build
from tests.support import tls
from topics.trust import sha256

FILES: Final = 50
CHANGED: Final = 20_000
TOKEN: Final = "x" * 250
"""As long as a device's token."""


def overhead(folder: Path, *, secure: bool) -> int:
    """Return the bytes moved beside the one file of `CHANGED` bytes that changed, in a bundle of `FILES`."""
    chance = random.Random(1)
    files = {f"files/lib/{n:02}.bin": chance.randbytes(CHANGED) for n in range(FILES - 2)}
    files["files/app.txt"] = b"app"
    old = build(7, files, info={"version": "1.0.0"})
    new = build(8, files | {"files/lib/07.bin": chance.randbytes(CHANGED)}, info={"version": "1.0.0"})
    paths = Paths(folder / "state")
    paths.make()
    archive = folder / "archive"
    archive.write_bytes(old.archive)
    stage.stage(paths, old.release, archive, {})
    context, ca = tls.server(folder)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(layout(new) | lead(old, new), context if secure else None))
        relay = stack.enter_context(Relay(server).running())
        url = f"{'https' if secure else 'http'}://localhost:{relay.port}"
        sources = Sources(
            [url + "/artifacts/{role}/{release}/bundle"],
            url,
            lambda _: TOKEN,
            lambda: ssl.create_default_context(cafile=ca),
        )
        fetcher = Fetcher(Settings(), sources, lambda: 0)
        assert delta.make(paths, new.release, fetcher, [old.id], {}), "the whole bundle would be fetched"
        del fetcher  # closes its connection, so that the goodbye is counted
    assert stage.stands(paths, new.release)
    return relay.moved - CHANGED


class Handler(BaseHTTPRequestHandler):
    """Serves what its server has, under the headers of the hub."""

    protocol_version = "HTTP/1.1"
    server: Serving

    def do_GET(self) -> None:
        data = self.server.files.get(self.path)
        self.send_response(404 if data is None else 200)
        self.send_header("ETag", f'"{sha256(data or b"")}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Cache-Control", "private, max-age=31536000, immutable")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Serving(ThreadingHTTPServer):
    """Serves `files` by path, over TLS with a `context`."""

    def __init__(self, files: dict[str, bytes], context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._context is None:
            super().finish_request(request, client_address)
        else:
            with self._context.wrap_socket(request, server_side=True) as secure:
                super().finish_request(secure, client_address)


@contextlib.contextmanager
def serving(files: dict[str, bytes], context: ssl.SSLContext | None) -> Iterator[int]:
    """Serve `files` and yield the port."""
    server = Serving(files, context)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Relay:
    """Hands bytes on between clients and a port of this machine, one connection after another, and counts them."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.moved = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[Relay]:
        """Run until the block ends, and then until what is open has ended."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            # Wakes `accept`, which closing the listener does not.
            self._listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with near, socket.create_connection(("127.0.0.1", self._target)) as far:
                self._pump(near, far)

    def _pump(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        with selectors.DefaultSelector() as selector:
            for sock in other:
                selector.register(sock, selectors.EVENT_READ, sock)
            while other:
                for key, _ in selector.select():
                    sock = key.data
                    data = sock.recv(64 * 1024)
                    self.moved += len(data)
                    if data:
                        other[sock].sendall(data)
                        continue
                    selector.unregister(sock)
                    with contextlib.suppress(OSError):  # the other one may have gone first
                        other.pop(sock).shutdown(socket.SHUT_WR)
