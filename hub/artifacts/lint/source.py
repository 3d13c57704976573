"""A file of a role as the rules see it, whether it comes from git or from an archive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

TEXT_LIMIT: Final = 256 * 1024
"""Largest compose file, template, script or policy in bytes; what is longer is data and not looked into."""


class SourceFile(msgspec.Struct, frozen=True):
    """A regular file: its path in the bundle, its mode and its size in bytes."""

    path: str
    mode: int
    size: int


Read = Callable[[SourceFile], bytes]
"""Returns the content of a file of at most `TEXT_LIMIT` bytes."""
