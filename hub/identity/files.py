"""Small files that must never be half there, and private ones that nobody else may read."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from hub.errors import SetupError


def write_atomic(path: Path, data: bytes, mode: int, *, owner: tuple[int, int] | None = None) -> None:
    """Replace `path` by `data` with permissions `mode`: write, fsync, rename, fsync the folder.

    Makes the folder (0700) when it is missing. `owner` is a (uid, gid) to give the file to. Raises
    `SetupError` when the file system refuses.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), mode)  # the umask must not decide
                if owner:
                    os.fchown(file.fileno(), *owner)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise SetupError(
            f"{path} cannot be written ({error.strerror}); check the folder's owner and free space"
        ) from error


def read_private(path: Path) -> bytes:
    """Return the bytes of a private file. Raises `SetupError` when it is missing or others may read it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise SetupError(f"{path} can be read by others (mode {mode:04o}); run: chmod 600 {path}")
            return file.read()
    except OSError as error:
        raise SetupError(
            f"{path} cannot be read ({error.strerror}); check its owner and permissions"
        ) from error
