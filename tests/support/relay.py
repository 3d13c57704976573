"""What stands between a device and its hub: a TLS front, a network that loses answers, a site's HTTP proxy."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Relay:
    """Listens on `port` and hands every connection on to the port `target`; with `tls` it speaks TLS to who comes.

    `loses` is asked with what a client sends: where it says yes, the answer is swallowed and the connection ends.
    """

    def __init__(
        self,
        target: int,
        tls: ssl.SSLContext | None = None,
        loses: Callable[[bytes], bool] = lambda _data: False,
        port: int = 0,
    ) -> None:
        self.target = target
        self.carried = 0
        """Bytes in both directions."""
        self.connections = 0
        self._tls, self._loses = tls, loses
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for each in list(self._open):
            _end(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(_end, client)
            self._open.add(client)
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
                stack.callback(_end, client)
                self._open.add(client)
            server = self.reach(client)
            if server is None:
                return
            stack.callback(_end, server)
            self._open.add(server)
            lost = threading.Event()
            back = threading.Thread(target=self._back, args=(server, client, lost), daemon=True)
            back.start()
            while data := client.recv(65536):
                self.carried += len(data)
                if self._loses(data):
                    lost.set()
                server.sendall(data)
            _end(server)
            back.join()

    def reach(self, _client: socket.socket) -> socket.socket | None:
        """Return the way on for a client."""
        return socket.create_connection(("127.0.0.1", self.target))

    def _back(self, server: socket.socket, client: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if lost.is_set():
                    break
                self.carried += len(data)
                client.sendall(data)
        _end(client)


class Proxy(Relay):
    """A site's HTTP proxy, the only one that knows the way to the names of `routes` (name → port on this machine).

    With `login` (`user:password` in base64) it asks for it. `asked` are the request lines of those that came.
    """

    def __init__(self, routes: Mapping[str, int], login: str = "") -> None:
        super().__init__(0)
        self.asked: list[str] = []
        self._routes, self._login = routes, login

    def reach(self, client: socket.socket) -> socket.socket | None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += (piece := client.recv(65536))
            if not piece:
                return None
        line = head.split(b"\r\n", 1)[0].decode()
        self.asked.append(line)
        if self._login and f"Proxy-Authorization: Basic {self._login}".encode() not in head:
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return None
        method, url, _ = line.split()
        host = url.partition(":")[0] if method == "CONNECT" else urlsplit(url).hostname or ""
        if host not in self._routes:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return None
        server = socket.create_connection(("127.0.0.1", self._routes[host]))
        if method == "CONNECT":
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            server.sendall(head.replace(url.encode(), urlsplit(url).path.encode(), 1))
        return server


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
