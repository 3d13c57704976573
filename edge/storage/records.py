"""Framed files: a mark, a checksum and one MessagePack map, with the generation before kept beside it.

A file of zero bytes, of zeros or of anything else is told from a good one; then the kept generation is used.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from edge.errors import NotReady
from edge.storage import disk

MARK: Final = b"FHR1"
T = TypeVar("T", bound=msgspec.Struct)


def pack(record: msgspec.Struct) -> bytes:
    """Return the bytes of a framed file."""
    body = msgspec.msgpack.encode(record)
    return MARK + zlib.crc32(body).to_bytes(4, "big") + body


def unpack(data: bytes, kind: type[T]) -> T | None:
    """Return the record in `data`, or None when the bytes are not whole."""
    body = data[8:]
    if data[:4] != MARK or zlib.crc32(body) != int.from_bytes(data[4:8], "big"):
        return None
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except msgspec.MsgspecError:
        return None


def load(path: Path, kind: type[T]) -> tuple[T | None, bool]:
    """Return the record at `path` and whether it is the newest one.

    Not the newest: the file was not whole and the generation before stands in. Raises `NotReady` when a
    whole file was written by a newer agent, since guessing at it could undo what that agent did.
    """
    for name, newest in ((path, True), (_kept(path), False)):
        try:
            data = name.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise NotReady(
                f"{name} cannot be read ({error.strerror}); run this as the agent's user"
            ) from None
        if data[:3] == MARK[:3] and data[3:4] > MARK[3:4]:
            raise NotReady(f"{name} was written by a newer agent; install that version again")
        record = unpack(data, kind)
        if record is not None:
            return record, newest
    return None, False


def exists(path: Path) -> bool:
    """Whether there is a file at `path`, or a generation before it, whole or not."""
    return path.exists() or _kept(path).exists()


def save(path: Path, record: msgspec.Struct) -> None:
    """Replace the record at `path` in one step, keeping the one before. Raises `OSError`."""
    beside = path.with_name(f".{path.name}.link")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink(missing_ok=True)
        os.link(path, beside)
        beside.replace(_kept(path))
    disk.replace(path, pack(record))


def _kept(path: Path) -> Path:
    return path.with_name(f"{path.name}.before")


def fresh_id(entropy: bytes) -> str:
    """Return the name of a new series of serial numbers."""
    return entropy[:8].hex()


def changed(record: T, **fields: Any) -> T:
    """Return `record` with `fields` replaced."""
    return msgspec.structs.replace(record, **fields)
