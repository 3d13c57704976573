"""Builds of the agent: found in a release, copied whole, checked by running them, removed when nobody needs them."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Final

from edge.config import Paths
from edge.download.fetch import file_sha256
from edge.errors import Stop
from edge.selfupdate import choice, launcher
from edge.storage import disk
from edge.updating import hooks, stage
from topics import bundle
from topics.bundle import FileEntry
from topics.errors import DecodeError

PLACE: Final = "files/agent/"
"""Where a release carries a build: packages as `pip install --target` lays them out."""
MAIN: Final = "edge/main.py"
TIMED_OUT: Final = 124


def carried(paths: Paths, release_id: str) -> list[FileEntry]:
    """Return the files of the build that a release on this device carries, relative to it; [] for none.

    From the signed checksums, which were checked when the release was staged.
    """
    try:
        document = bundle.parse_checksums(paths.checksums(release_id).read_bytes())
    except (OSError, DecodeError):
        return []
    return [
        FileEntry(entry.path.removeprefix(PLACE), entry.sha256, entry.size, entry.mode)
        for entry in document.files
        if entry.path.startswith(PLACE)
    ]


def name(files: list[FileEntry]) -> str:
    """Return the name of the build with these files, "" for none: the same files, the same name."""
    return hashlib.sha256(bundle.checksums_bytes(files)).hexdigest()[:16] if files else ""


def install(paths: Paths, release_id: str, files: list[FileEntry]) -> None:
    """Copy a build out of its release, whole or not at all. Raises `Stop` and `OSError`."""
    if MAIN not in {entry.path for entry in files}:
        raise Stop(f"{PLACE} holds no agent: {PLACE}{MAIN} is missing", lasting=True)
    folder = choice.folder(paths, name(files))
    if _stands(folder, files):
        return
    staging = folder.with_name(f".staging-{folder.name}")
    choice.home(paths).mkdir(mode=0o700, exist_ok=True)
    try:
        disk.remove(staging)
        for entry in files:
            path = staging / entry.path
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if not stage.copy(paths.release(release_id) / PLACE / entry.path, path, entry):
                raise Stop(f"{PLACE}{entry.path} is not as it was signed")
            disk.fsync(path)
        for each in {parent for entry in files for parent in (staging / entry.path).parents}:
            if each.is_relative_to(staging):
                disk.fsync_dir(each)
        disk.remove(folder)
        staging.rename(folder)
        disk.fsync_dir(choice.home(paths))
    finally:
        disk.remove(staging)


def check(paths: Paths, build: str, seconds: float) -> None:
    """Have a build say that it runs on this machine and reads this device's files. Raises `Stop`."""
    command = [sys.executable, "-m", "edge.main", "self-check", "--state", str(paths.root)]
    environ = launcher.environment(choice.folder(paths, build), build)
    result = hooks.run(command, environ, paths.run, paths.root, seconds)
    if not result.ok:
        raise Stop(
            f"the agent that it carries does not run here: {result.reason}",
            # A machine that could not start it, or was too slow, says nothing of the release.
            lasting=not (result.code == TIMED_OUT or result.later),
        )


def prune(paths: Paths) -> None:
    """Remove builds that nobody needs. Raises `OSError`."""
    if not choice.home(paths).is_dir():
        return
    held = choice.load(paths)
    kept = {held.chosen, held.trial, launcher.own()}
    for path in choice.home(paths).iterdir():
        if path.is_dir() and path.name not in kept:
            disk.remove(path)


def _stands(folder: Path, files: list[FileEntry]) -> bool:
    try:
        return all(file_sha256(folder / entry.path) == entry.sha256 for entry in files)
    except OSError:
        return False
