"""Which release stands where: the links `current` and `previous`, and what may be removed.

Links are always set from what `state` says, never from what they point to, so setting them again after a
crash is right whatever had happened before it.
"""

from __future__ import annotations

from edge.config import Paths
from edge.storage import disk
from edge.storage.state import State


def point(paths: Paths, current: str | None, previous: str | None) -> None:
    """Make `current` and `previous` point to these releases (None: to none). Raises `OSError`."""
    disk.link(paths.previous, f"releases/{previous}" if previous else None)
    disk.link(paths.current, f"releases/{current}" if current else None)


def points_to(paths: Paths, release_id: str) -> bool:
    """Whether `current` is this release."""
    try:
        return paths.current.readlink().name == release_id
    except OSError:
        return False


def prune(paths: Paths, state: State, *, downloads: bool) -> None:
    """Remove releases that `state` does not hold on to, and with `downloads` what was downloaded.

    Raises `OSError`.
    """
    kept = {installed.release.id for installed in (state.running, state.previous) if installed}
    if state.update and state.update.state in ("activating", "probation", "rolling_back"):
        kept.add(state.update.release.id)
    for folder in (paths.releases, paths.rendered("x").parent, paths.meta("x").parent):
        for path in folder.iterdir():
            if path.name.removesuffix(".checksums") not in kept:
                disk.remove(path)
    if downloads:
        for path in paths.downloads.iterdir():
            disk.remove(path)
