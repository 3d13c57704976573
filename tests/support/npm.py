"""Programs of npm's registry that tests run."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest


def installed(name: str, *packages: str) -> Path:
    """Return the folder `name` of the user's cache, whose `node_modules` hold the packages; npm fills it once.

    Skips the test where npm is missing or cannot.
    """
    for program in ("npm", "node"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing (apt install nodejs npm)")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "flaghoist" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        # Another worker may be at it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            (folder / "package.json").write_text('{"private": true}')
            done = subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, *packages],
                capture_output=True,
                text=True,
                timeout=400,
                check=False,
            )
            if done.returncode:
                said = done.stderr.strip() or "it said nothing"
                pytest.skip(f"npm cannot install {packages[0]} here: {said.splitlines()[-1]}")
            (folder / "done").touch()
    return folder
