"""Makes every typed decoder once, on the main thread, before any other thread decodes.

msgspec 0.22 builds what it knows of a type at its first use and does not guard that: two threads that first use
the same type at the same moment crash the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec


def prepare_types() -> int:
    """Build a decoder for every message and document type that is loaded; return how many."""
    count = 0
    for kind in set(_below(msgspec.Struct)):
        try:
            msgspec.json.Decoder(kind)
            msgspec.msgpack.Decoder(kind)
        except TypeError:
            continue  # holds functions or services, and is never decoded
        count += 1
    return count


def _below(kind: type[Any]) -> Iterator[type[Any]]:
    children: list[type[Any]] = kind.__subclasses__()
    for child in children:
        yield child
        yield from _below(child)
