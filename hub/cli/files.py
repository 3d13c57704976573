"""Reading the small files that people name on the command line."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from hub.errors import SetupError

SMALL: Final = 1024 * 1024
"""Largest file in bytes that is read whole."""


def read_small(path: Path, what: str, *, limit: int = SMALL) -> bytes:
    """Return the content of `path`, which is meant to be `what` ("a root document"); raises `SetupError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            # /dev/stdin and shell substitutions are pipes, and fine.
            if stat.S_ISDIR(status.st_mode):
                raise SetupError(f"{path} is a folder; give the path of {what}")
            data = _read_up_to(descriptor, limit + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise SetupError(f"{path} does not exist; give the path of {what}") from None
    except OSError as error:
        raise SetupError(f"cannot read {path} ({error.strerror}); check its owner and mode") from None
    if len(data) > limit:
        raise SetupError(f"{path} is larger than {limit} bytes, so it is not {what}; check the path")
    return data


def _read_up_to(descriptor: int, limit: int) -> bytes:
    data = b""
    while len(data) < limit and (chunk := os.read(descriptor, limit - len(data))):
        data += chunk
    return data
