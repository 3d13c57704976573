"""The API of a hub on a real port, in this process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from hub.app import http_config


@contextmanager
def served(app: Any) -> Iterator[int]:
    """Serve `app` as `flaghoist-hub` serves the API, and yield the port."""
    config = http_config(app)
    config.lifespan = "off"  # a test's own client has begun it already
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
