"""On the machine of the power cuts: tells the console what stands on the disk before the agent starts (`LAB boot`), and
whatever changes after (`LAB now`), each as a line of JSON. It reads, and trusts nothing that the agent says of itself
but its state file."""

from __future__ import annotations

import hashlib
import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from edge.config import DEFAULT_STATE, Paths
from edge.machine.notify import Notifier
from edge.storage import state
from topics import bundle

PATHS = Paths(DEFAULT_STATE)


def tell(what: str, seen: dict[str, Any]) -> None:
    print(f"LAB {what} {json.dumps(seen)}", flush=True)


def current() -> str | None:
    """Return the release that `current` points to."""
    return PATHS.current.resolve().name if PATHS.current.is_symlink() else None


def broken(release: str | None) -> str:
    """Return what of this release is not as it was signed, "" when it is whole. Every byte is read."""
    if release is None:
        return ""
    try:
        signed = bundle.parse_checksums(PATHS.checksums(release).read_bytes()).files
        for entry in signed:
            path = PATHS.release(release) / entry.path
            if hashlib.sha256(path.read_bytes()).hexdigest() != entry.sha256:
                return f"{entry.path} has other content"
            if path.stat().st_mode & 0o777 != entry.mode:
                return f"{entry.path} has another mode"
    except (OSError, ValueError) as error:
        return str(error)
    found = {path for path in PATHS.release(release).rglob("*") if not path.is_dir()}
    extra = found - {PATHS.release(release) / entry.path for entry in signed}
    return f"{sorted(extra)[0]} was never signed" if extra else ""


def served() -> str | None:
    """Return the release that the device's service says it is, None when none answers well."""
    try:
        with urllib.request.urlopen("http://127.0.0.1:8081/health", timeout=5) as answer:
            return str(json.load(answer)["release"])
    except (OSError, ValueError, urllib.error.URLError):
        return None


def seen() -> dict[str, Any]:
    """Return what stands on the disk and what is served."""
    held = state.load(PATHS)
    update = held.update
    return {
        "current": current(),
        "running": held.running_id,
        "update": update and update.release.id,
        "state": update and update.state,
        "attempt": update and update.attempt,
        "reason": update and update.reason,
        "safe_mode": held.safe_mode,
        "served": served(),
    }


def main() -> None:
    last = seen()
    tell("boot", {**last, "broken": broken(last["current"])})
    Notifier(os.environ, os.getpid()).tell("READY=1")
    while True:
        now = seen()
        if now != last:
            tell("now", now)
            last = now
        # Slow on purpose: the processor is emulated, and the agent needs it.
        time.sleep(0.5)


if __name__ == "__main__":
    os.chdir(Path("/"))
    main()
