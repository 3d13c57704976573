"""What Linux itself knows of a disk's health: errors that a file system met, and the wear that flash memory admits.

SMART needs root and a program; `/sys` needs neither.
"""

from __future__ import annotations

import os
from pathlib import Path

from edge.diagnose.finding import Finding, graded, passed

_WORN = {1: "", 2: "80% of its spare blocks are used", 3: "its spare blocks are used up"}
"""Values of `pre_eol_info` of eMMC (JEDEC 84-B51): normal, warning, urgent."""


def device(folder: Path, system: Path = Path("/")) -> Path | None:
    """Return the directory below `/sys` of the disk or partition that holds `folder`, None for what is no disk."""
    number = folder.stat().st_dev
    found = system / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
    return found.resolve() if found.exists() else None


def check(folder: Path, system: Path = Path("/")) -> list[Finding]:
    """Return what is known of the disk that holds `folder`. Raises `OSError`."""
    found = device(folder, system)
    return [_errors(errors(folder, system)), _wear(_wear_of(found) if found else None)]


def errors(folder: Path, system: Path = Path("/")) -> int | None:
    """Return how many errors the ext4 file system of `folder` has met since it was last checked, None when it does not
    tell. Raises `OSError`."""
    found = device(folder, system)
    if found is None:
        return None
    return _number(system / "sys/fs/ext4" / found.name / "errors_count")


def _errors(count: int | None) -> Finding:
    if count is None:
        return passed("disk errors", "this file system does not count them")
    return graded(
        "disk errors",
        f"{count} since the file system was last checked",
        "Have fsck check the file system at the next boot, and replace the disk if they come again.",
        fail=count > 0,
        warn=False,
    )


def _wear(words: str | None) -> Finding:
    if words is None:
        return passed("disk wear", "the disk does not tell")
    return graded(
        "disk wear",
        words or "within its life",
        "Replace the disk before it refuses writes.",
        fail="used up" in words,
        warn=bool(words),
    )


def _wear_of(found: Path) -> str | None:
    # A partition's own directory lies within that of its disk.
    for folder in (found, found.parent):
        level = _number(folder / "device" / "pre_eol_info")
        if level is not None:
            return _WORN.get(level)
    return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"), 0)
    except (OSError, ValueError):
        return None
