"""A file that says that the device is in safe mode, for other programs of the machine: units, a screen, a lamp."""

from __future__ import annotations

import contextlib

from edge.config import Paths


def safe_mode(paths: Paths, *, on: bool) -> None:
    """Make `run/safe-mode` exist or not. A disk that refuses is passed over: safe mode itself does not hang on it."""
    path = paths.run / "safe-mode"
    with contextlib.suppress(OSError):
        if on:
            path.touch()
        else:
            path.unlink(missing_ok=True)
