"""The socket of the API."""

from __future__ import annotations

import socket

from hub import config


def test_connections_do_not_hold_back_small_packets() -> None:
    """An answer leaves as head and body; with Nagle's algorithm a kept connection would wait 40 ms for each."""
    with (
        config.listen(config.Address("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
