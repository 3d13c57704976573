"""This device's secrets: a file each, named like the variable that it fills in env templates.

They lie in the folder `secrets_dir` of the settings (by default `secrets` in the state directory) and in what systemd
passes as credentials; a name in the first wins. A file is read only when a template asks for it, and only when it is
nobody else's to read. Values go into filled templates and nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.config import Paths, Settings
from edge.errors import Stop

MAX_BYTES: Final = 16 * 1024
MASK: Final = "***"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_SHORTEST: Final = 4
"""Shorter values are not masked: they would be found inside of ordinary words."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """Where secrets are looked for: folders with the permission bits that their files may not have."""

    folders: tuple[tuple[Path, int], ...] = ()

    def get(self, name: str) -> str | None:
        """Return the value of a secret, None when there is none. Raises `Stop` when its file is not fit to be one."""
        if not _NAME.match(name):
            return None
        for folder, refused in self.folders:
            try:
                return _read(folder / name, refused)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise Stop(f"the secret {name} cannot be read: {error.strerror}") from None
        return None

    def masked(self, text: str) -> str:
        """Return `text` with the values of all secrets made unreadable: programs that are given them may print them."""
        for value in sorted(self._values(), key=len, reverse=True):
            if len(value) >= _SHORTEST:
                text = text.replace(value, MASK)
        return text

    def _values(self) -> set[str]:
        found = set()
        for folder, _ in self.folders:
            for path in folder.glob("*"):
                with contextlib.suppress(OSError, Stop):
                    found.add(_read(path, 0))
        return found


def of(paths: Paths, settings: Settings, environ: Mapping[str, str] = os.environ) -> Secrets:
    """Return this device's secrets."""
    own = Path(settings.secrets_dir) if settings.secrets_dir else paths.root / "secrets"
    folders = [(own, 0o077)]
    if given := environ.get("CREDENTIALS_DIRECTORY"):
        # The group bits there are the mask of an access list for the unit's user.
        folders.append((Path(given), 0o007))
    return Secrets(tuple(folders))


def _read(path: Path, refused: int) -> str:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise Stop(f"the secret {path} is not a regular file")
        if status.st_mode & refused:
            raise Stop(f"the secret {path} can be read by others; run chmod 600 on it")
        if status.st_uid not in (0, os.geteuid()):
            raise Stop(f"the secret {path} belongs to another user, who can change it; run chown on it")
        data = os.read(handle, MAX_BYTES + 1)
    finally:
        os.close(handle)
    try:
        value = data.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise Stop(f"the secret {path} is not text") from None
    if len(data) > MAX_BYTES or not value.isprintable():
        raise Stop(f"the secret {path} is not one line of at most {MAX_BYTES} bytes")
    return value
