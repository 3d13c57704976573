"""A gzip stream that is the same bytes on any machine.

What zlib makes depends on which zlib it is: Python is built with zlib or zlib-ng, of several versions, with other code
on other processors. So a bundle is packed by one version of one library (docs/decisions/0019): miniz_oxide, which has
one code for all processors, as cramjam brings it along.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cramjam

from hub.errors import SetupError

CRAMJAM: Final = "2.14.0"
"""The version in pyproject.toml. Another one gives another archive, so a new one needs a decision."""
NAME: Final = f"cramjam {CRAMJAM}, miniz_oxide 0.9.1"
LEVEL: Final = 9
CHUNK: Final = 1024 * 1024
"""Bytes that are packed at a time, which bounds memory; where they end shows in the archive."""


def check() -> None:
    """Raise `SetupError` unless the library is the one that bundles are packed by."""
    if cramjam.__version__ != CRAMJAM:
        raise SetupError(
            f"cramjam {cramjam.__version__} is installed, bundles are packed by {CRAMJAM} so that they are the same "
            f"everywhere; install cramjam=={CRAMJAM}"
        )


class Gzip:
    """A writable that packs what it is given into `write`; the same bytes, however they are cut."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._held = bytearray()
        self._compressor = cramjam.gzip.Compressor(LEVEL)

    def write(self, data: bytes) -> int:
        """Take some bytes."""
        self._held += data
        while len(self._held) >= CHUNK:
            self._compressor.compress(bytes(self._held[:CHUNK]))
            del self._held[:CHUNK]
            self._write(bytes(self._compressor.flush()))
        return len(data)

    def close(self) -> None:
        """End the stream."""
        self._compressor.compress(bytes(self._held))
        self._write(bytes(self._compressor.finish()))
