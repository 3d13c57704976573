"""Whether what is secret on this device is nobody else's to read, and what is trusted nobody else's to change."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge.config import Paths, Settings
from edge.diagnose.finding import Finding, failed, passed, warned
from edge.updating import secrets

CHECK: Final = "secret files"
_READ, _WRITE = 0o077, 0o022
_REMEDY: Final = "Run chmod 600 and chown on what is named, and replace a secret that others could have read."
MOST: Final = 3
"""How many are named."""


def check(paths: Paths, settings: Settings, identity: Path) -> Finding:
    """Look at the device's key, certificates (in the folder `identity`), secrets, filled templates and `device.env`.

    What the agent itself would refuse fails; in a state directory that lets others in, so does what it would take.
    Raises `OSError` when a folder cannot be read.
    """
    looked = 0
    refused: list[str] = []
    borne: list[str] = []
    for path, bits, used_anyway in _files(paths, settings, identity):
        if not os.path.lexists(path):
            continue
        looked += 1
        if problem := _problem(path, bits):
            (borne if used_anyway else refused).append(problem)
    if refused or (borne and paths.root.stat().st_mode & 0o011):
        return failed(CHECK, _told([*refused, *borne]), _REMEDY)
    if borne:
        return warned(CHECK, f"{_told(borne)}; the state directory keeps others out", _REMEDY)
    return passed(CHECK, f"{looked} files, nobody else's")


def _files(paths: Paths, settings: Settings, identity: Path) -> Iterator[tuple[Path, int, bool]]:
    """Yield each file, the permission bits it may not have, and whether the agent uses it nevertheless."""
    yield identity / "key.pem", _READ, False
    for name in ("cert.pem", "ca.pem", "device"):
        yield identity / name, _WRITE, True
    for folder, bits in secrets.of(paths, settings).folders:
        yield from ((path, bits, False) for path in _below(folder) if path.parent == folder)
    yield from ((path, _READ, True) for path in _below(paths.rendered("x").parent))
    for name in ("device.env", "diagnostics.json"):
        yield paths.root / name, _READ, True


def _below(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in sorted(folder.rglob("*")) if not path.is_dir())


def _problem(path: Path, bits: int) -> str:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is no regular file"
    if status.st_uid not in (0, os.geteuid()):
        return f"{path} belongs to another user"
    if status.st_mode & bits:
        return f"others can {'change' if bits == _WRITE else 'read'} {path}"
    return ""


def _told(problems: list[str]) -> str:
    more = f", and {len(problems) - MOST} more" if len(problems) > MOST else ""
    return "; ".join(problems[:MOST]) + more
