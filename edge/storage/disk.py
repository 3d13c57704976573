"""Changes on disk that are either whole or not there, whatever moment the power fails."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Final

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk."""


def is_full(error: OSError) -> bool:
    """Whether `error` says that the disk, or this user's share of it, is full."""
    return error.errno in FULL


def fsync(path: Path) -> None:
    """Make the content and mode of a file durable. Raises `OSError`."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_dir(path: Path) -> None:
    """Make the names in folder `path` durable. Raises `OSError`."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durable(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Create or overwrite `path` and force it to disk; not atomic. Raises `OSError`."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(handle, "wb", closefd=False) as file:
            file.write(data)
        os.fchmod(handle, mode)
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put `data` at `path` in one step: write beside it, fsync, rename, fsync the folder. Raises `OSError`."""
    beside = path.with_name(f".{path.name}.new")
    try:
        write_durable(beside, data, mode)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)  # a full disk must not stay full because of us
        raise
    fsync_dir(path.parent)


def link(path: Path, target: str | None) -> None:
    """Make the symbolic link `path` point to `target` in one step; None removes it. Raises `OSError`."""
    if target is None:
        path.unlink(missing_ok=True)
    else:
        beside = path.with_name(f".{path.name}.new")
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        beside.replace(path)
    fsync_dir(path.parent)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it is there. Raises `OSError` when it cannot be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
