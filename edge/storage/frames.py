"""A row of frames in a file: length, CRC-32, body. What follows the last whole one, torn or anything else, is told."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

_HEAD: Final = struct.Struct(">II")
MAX_FRAME: Final = 128 * 1024
"""A length beyond this is no length."""


def pack(body: bytes) -> bytes:
    """Return the frame of a body, which is not empty."""
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def unpack(data: bytes) -> Iterator[bytes | None]:
    """Yield the bodies in `data`; a None last when something follows that is not a whole frame."""
    position = 0
    while position < len(data):
        head = data[position : position + _HEAD.size]
        if len(head) < _HEAD.size:
            yield None
            return
        size, crc = _HEAD.unpack(head)
        body = data[position + _HEAD.size : position + _HEAD.size + size]
        if not size or size > MAX_FRAME or len(body) < size or zlib.crc32(body) != crc:
            yield None
            return
        yield body
        position += _HEAD.size + size
