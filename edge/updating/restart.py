"""The restart of the machine that a hook may ask for: the image of a system runs only after one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from edge.updating import hooks

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot() -> str:
    """Return the id of this boot. Raises `OSError`."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


def ask(
    command: str, scratch: Path, *, limit: float, patience: float, sleep: Callable[[float], None] = time.sleep
) -> str:
    """Have the machine restarted by `command` (at most `limit` s) and wait for it `patience` s.

    Return why it did not come: this process ends with the machine, so there is nothing to return when it does.
    """
    result = hooks.run(command.split(), os.environ, scratch, scratch, limit)
    if not result.ok:
        return f"the machine cannot be restarted: {result.reason}"
    sleep(patience)
    return f"the machine was told to restart and did not within {patience:g} s"
