"""TCP ports for servers that a test starts in another process."""

from __future__ import annotations

import socket
from collections import deque
from typing import Final

LIMIT: Final = 200
"""Holders of one process: a worker that runs every test needs a few at a time, and each is an open file."""
_HELD: Final[deque[socket.socket]] = deque()


def held_port() -> int:
    """Return a TCP port on 127.0.0.1 that nobody but a server can take until `LIMIT` others are held.

    A port that was merely found free may go to any connection before the server listens, even between its restarts:
    simulated fleets open thousands. A socket that is bound and never listens keeps it: the kernel gives its port to
    no connection, and lets a server with SO_REUSEADDR, which all servers here set, listen beside it.
    """
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    # Only now: with it, the kernel might have chosen a port that another holder has.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _HELD.append(holder)
    if len(_HELD) > LIMIT:
        _HELD.popleft().close()
    port: int = holder.getsockname()[1]
    return port
