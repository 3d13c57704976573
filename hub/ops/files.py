"""The files of the Ops page, as they lie in the package: read once, and told apart by their hash."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

import msgspec

from hub.errors import NotFound
from topics.trust import sha256

TYPES: Final = {
    "css": "text/css",
    "html": "text/html",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
PAGE: Final = "index.html"


class File(msgspec.Struct, frozen=True):
    """One file with its media type and strong ETag."""

    content: bytes
    media_type: str
    etag: str


@cache
def all_files() -> dict[str, File]:
    """Return every file by its name."""
    found = {}
    for entry in resources.files("hub.ops").joinpath("static").iterdir():
        suffix = entry.name.rpartition(".")[2]
        if suffix in TYPES:
            content = entry.read_bytes()
            found[entry.name] = File(content, TYPES[suffix], f'"{sha256(content)}"')
    return found


def get(name: str) -> File:
    """Return a file; raises `NotFound`."""
    if name not in all_files():
        raise NotFound(f"The Ops page has no file {name}.")
    return all_files()[name]
