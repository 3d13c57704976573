"""Roots of trust that a device missed: the retained message holds the last few, the hub serves the rest.

The agent asks by a file, the update process fetches, the agent takes what was fetched and checks it like any
other root. Nothing here is believed.
"""

from __future__ import annotations

import ssl
from typing import Final

from edge import web
from edge.config import Paths
from edge.errors import EdgeError
from edge.storage import disk
from topics import codec, trust
from topics.documents import RootChain

MOST: Final = 64
"""Roots fetched at once; a device further behind asks again."""


def ask(paths: Paths, version: int) -> None:
    """Ask for the roots after `version`. Raises `OSError`."""
    disk.replace(paths.wanted_roots / "after", str(version).encode())


def is_asked(paths: Paths) -> bool:
    """Whether roots are asked for."""
    return (paths.wanted_roots / "after").exists()


def fetch(paths: Paths, hub: str, tls: ssl.SSLContext) -> None:
    """Fetch what was asked for, if anything was. A hub that does not answer is asked another time."""
    if not is_asked(paths):
        return
    asked = paths.wanted_roots / "after"
    first = int(asked.read_bytes()) + 1
    for version in range(first, first + MOST):
        url = f"{hub.rstrip('/')}/trust/roots/{version}"
        try:
            status, body = web.request("GET", url, tls=tls, limit=trust.ROOT_LIMIT)
        except EdgeError:
            break
        if status != 200 or len(body) > trust.ROOT_LIMIT:
            break
        disk.replace(paths.wanted_roots / f"{version:010d}", body)
    asked.unlink()


def take(paths: Paths) -> list[bytes]:
    """Return what was fetched, oldest first, each as the body of a `trust/root` message; it is removed."""
    bodies = []
    for path in sorted(paths.wanted_roots.iterdir()):
        if path.name.isdigit():
            bodies.append(codec.encode(RootChain([path.read_bytes()])))
            path.unlink()
    return bodies
