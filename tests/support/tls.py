"""What a TLS listener answers."""

from __future__ import annotations

import socket
import ssl


def handshake(context: ssl.SSLContext, port: int) -> str | None:
    """Connect and read once, since TLS 1.3 tells a client of its refused certificate only on reading."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        secure.settimeout(0.5)
        try:
            secure.recv(1)
        except TimeoutError:
            return secure.version()
        return None


def is_refused(context: ssl.SSLContext, port: int) -> bool:
    """Whether a listener refuses what a client shows."""
    try:
        return handshake(context, port) is None
    except (ssl.SSLError, ConnectionError):
        return True
