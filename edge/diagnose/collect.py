"""What the agent sends of itself when it is asked to, or enters safe mode: `diagnostics` of an `up/recovery` report.

The same is kept in `diagnostics.json` in the state directory for whoever stands beside the device. Every text is
bounded, all of them together well below what a message may hold.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from edge.config import Paths
from edge.diagnose import disk, machine
from edge.diagnose.finding import Finding
from edge.logs import book
from edge.machine.clock import SystemClock
from edge.storage import disk as durable
from edge.storage.state import State
from topics.messages import Boot, Recovery

STEP_SECONDS: Final = 3.0
"""Time limit of one step on the way to the broker: the device has more to do than to wait for it."""
CHECKS_BYTES, LOG_BYTES, SMALL_BYTES = 15_000, 12_000, 2_000
LOG_LINES: Final = 120
DETAIL: Final = 200


def gather(paths: Paths, standing: State, system: SystemClock) -> dict[str, str]:
    """Return the texts by their keys. Raises `OSError`."""
    from edge.diagnose import command

    findings = command.gather(paths, system, step_seconds=STEP_SECONDS)
    readings = machine.read(paths.root, wall=system.wall(), newest=0)
    room = {
        "free_bytes": readings.probes.disk_free,
        "used_share": readings.probes.disk_used,
        "free_files": readings.inodes,
        "read_only": readings.read_only,
        "errors": disk.errors(paths.root),
    }
    return {
        "checks": checks(findings),
        "probes": cut(json.dumps(msgspec.to_builtins(readings.probes)), SMALL_BYTES),
        "disk": cut(json.dumps(room), SMALL_BYTES),
        "errors": cut("\n".join(errors(standing)), SMALL_BYTES),
        "log": cut("\n".join(book.last(paths, LOG_LINES)), LOG_BYTES, keep_end=True),
    }


def checks(findings: Sequence[Finding]) -> str:
    """Return the findings as JSON of at most `CHECKS_BYTES`; where they are too many, what passed is left out first."""

    def said(chosen: Sequence[Finding]) -> str:
        return json.dumps(
            [
                {
                    "name": each.check,
                    "verdict": each.level,
                    "detail": each.detail[:DETAIL],
                    "remedy": each.remedy[:DETAIL],
                }
                for each in chosen
            ]
        )

    chosen = list(findings)
    while len(said(chosen)) > CHECKS_BYTES:
        least = next(
            each for level in ("pass", "skip", "warn", "fail") for each in chosen if each.level == level
        )
        chosen.remove(least)
    return said(chosen)


def errors(standing: State) -> list[str]:
    """Return the last errors that are on record, a line each."""
    lines = [f"service: {standing.service}"] if standing.service else []
    update = standing.update
    if update is not None and update.reason:
        lines.append(f"{update.release.id} {update.state} (attempt {update.attempt}): {update.reason}")
    lines += [f"failed here: {release}" for release in standing.failed]
    return lines


def cut(text: str, most: int, *, keep_end: bool = False) -> str:
    """Return `text` without NULs and with at most `most` bytes of UTF-8, cut at its end, or at its beginning."""
    data = text.replace("\0", "").encode(errors="replace")
    kept = data[-most:] if keep_end else data[:most]
    return kept.decode(errors="ignore")


def report(told: dict[str, str], standing: State, reason: str, boot: Boot, wall: int) -> Recovery:
    """Return the durable report of diagnostics taken at `wall` (s), with no place in a spool yet."""
    from edge.storage import state

    return Recovery(
        boot=boot,
        at=max(0, wall),
        spool=state.NO_SPOOL,
        n=1,
        state="diagnostics",
        entry=standing.safe_mode,
        reason=reason[:1000],
        release=standing.running_id,
        diagnostics=told,
    )


def place(paths: Paths) -> Path:
    """Where the last diagnostics are kept."""
    return paths.root / "diagnostics.json"


def keep(paths: Paths, told: dict[str, str], reason: str, wall: int) -> None:
    """Keep diagnostics taken at `wall` (s) on disk. Raises `OSError`."""
    taken: dict[str, Any] = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall)),
        "reason": reason,
        **told,
    }
    durable.replace(place(paths), json.dumps(taken, indent=2).encode())
