"""The time in which a new release must prove itself before it is committed.

Every `probe_interval_seconds` for `probation_seconds`: the hook's `probe`, the release's own `validate/`
scripts, and the machine. A service needs a moment to come up, so until everything was well once, failures are
borne for `GRACE` of the time (at most `MAX_GRACE` s); "try later" (75) is borne for all of it, and at its end for
`LATE_ROUNDS` more: a machine that for a moment can start no check condemns no release. The last round must be well
throughout.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.config import Paths, Settings
from edge.machine import probes
from edge.updating.hooks import Hooks, Place
from topics.bundle import BundleInfo

GRACE: Final = 0.5
MAX_GRACE: Final = 30.0
LATE_ROUNDS: Final = 3
"""Rounds beyond the end in which a check that could not be made may still be."""
LEAST_LATE: Final = 1.0
"""Seconds that they take at the least."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one round found: "" when all is well; `later` when the only trouble was "try later"."""

    problem: str = ""
    later: bool = False


def watch(
    paths: Paths,
    settings: Settings,
    hooks: Hooks,
    place: Place,
    info: BundleInfo,
    *,
    steady: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Return why the release does not pass, "" when it does."""
    scripts = validate_scripts(paths.release(place.release_id))
    return judge(
        lambda: look(paths, settings, hooks, place, scripts),
        seconds=info.probation_seconds,
        interval=info.probe_interval_seconds,
        steady=steady,
        sleep=sleep,
    )


def judge(
    round_: Callable[[], Finding],
    *,
    seconds: float,
    interval: float,
    steady: Callable[[], float],
    sleep: Callable[[float], None],
) -> str:
    """Return the problem of the first round that may not be borne, "" when probation is passed."""
    start = steady()
    grace = min(seconds * GRACE, MAX_GRACE)
    was_well = False
    while True:
        finding = round_()
        passed = steady() - start
        if not finding.problem and passed >= seconds:
            return ""
        was_well = was_well or not finding.problem
        # At the end, a check that could not be made says nothing of the release: it is made again.
        end = seconds + max(LATE_ROUNDS * interval, LEAST_LATE) if finding.later else seconds
        borne = passed < end and (finding.later or (not was_well and passed < grace))
        if finding.problem and not borne:
            return finding.problem
        sleep(min(interval, end - passed))


def look(paths: Paths, settings: Settings, hooks: Hooks, place: Place, scripts: list[Path]) -> Finding:
    """Return what one round of all checks finds."""
    result = hooks.call("probe", place)
    if not result.ok:
        return Finding(f"probe: {result.reason}", result.later)
    for script in scripts:
        result = hooks.check(script, place, settings.validate_seconds)
        if not result.ok:
            return Finding(f"validate/{script.name}: {result.reason}", result.later)
    return Finding(probes.problem(probes.read(paths.root)))


def validate_scripts(folder: Path) -> list[Path]:
    """Return the release's own checks, in order of their names."""
    return sorted(path for path in folder.glob("validate/*") if path.is_file())
