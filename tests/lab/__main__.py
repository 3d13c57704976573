"""`make lab`: the power of a device is cut at random moments of its updates, and each time it comes back whole.

Exits 0 when everything that must be so was so after each cut, 1 when something was not, 3 when no machine can be
booted here. `--seed` repeats the moments of another run; the emulated machine's own pace is never the same twice.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.e2e.fleet import NotObservedError
from tests.lab import debian, judge
from tests.lab.bench import Bench
from tests.lab.machine import SilentError


@dataclass
class Row:
    """One cut: after how many seconds of the update or boot, what the device had said last, and what became of it."""

    cut: int
    update: str
    after: float
    during: str
    found: str = "cut again before it was seen"
    on: str = ""
    ending: str = ""
    seconds: float | None = None
    faults: list[str] = field(default_factory=list)

    def look(self, seen: dict[str, Any], old: str, new: str) -> None:
        """Judge what the next boot found on the disk."""
        self.found = judge.stand(seen, new)
        self.on = {old: "old", new: "new"}.get(str(seen["current"]), "neither")
        self.faults += judge.at_boot(seen, old, new)


def play(bench: Bench, updates: list[list[judge.Cut]], rows: list[Row]) -> None:
    """Play all cuts and add a row for each to `rows`. Raises `SilentError` and `NotObservedError`."""
    old = bench.first()
    for sequence, cuts in enumerate(updates, 3):
        new = bench.offer(sequence)
        since = time.monotonic()
        for cut in cuts:
            after = bench.cut(cut, since)
            last, seen = bench.heard(), bench.heard("boot")
            if cut.again and seen is not None:
                rows[-1].look(seen, old, new)
            during = "booting" if last is None else judge.stand(last, new)
            rows.append(Row(cut.number, new, after, during))
            bench.tell(f"cut {cut.number}: {new}, after {after} s, {during}")
            since = bench.power_on()
        found = bench.boot()
        rows[-1].look(found, old, new)
        end = bench.arrived(new)
        rows[-1].ending = judge.ending(found, end, new)
        rows[-1].seconds = round(time.monotonic() - since, 1)
        old = new


def table(rows: list[Row]) -> Table:
    """Return the report for people."""
    made = Table("cut", "update", "after", "while", "found", "runs", "then", "seconds", "faults")
    for row in rows:
        seconds = "" if row.seconds is None else f"{row.seconds:.0f}"
        said = "; ".join(row.faults) or "none"
        made.add_row(
            *(str(row.cut), row.update, f"{row.after:.1f} s", row.during, row.found, row.on),
            *(row.ending, seconds, said),
        )
    return made


def main() -> int:
    """Run the lab; return the exit code."""
    parser = argparse.ArgumentParser(prog="make lab", description="Power cuts at random moments of updates.")
    parser.add_argument("--cuts", type=int, default=10, metavar="N", help="how many (10)")
    parser.add_argument("--seed", type=int, default=None, metavar="S", help="repeat the moments of a run")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    chosen = parser.parse_args()
    if chosen.cuts < 1:
        parser.error("--cuts takes 1 or more")
    people = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    if os.geteuid() != 0 or debian.missing():
        people.print(
            f"lab: no machine can be booted here: {debian.missing() or 'only root can make its disk'}"
        )
        return 3
    seed = secrets.randbelow(1_000_000) if chosen.seed is None else chosen.seed
    folder = Path(tempfile.mkdtemp(prefix="flaghoist-lab-"))
    began, rows, problem = time.monotonic(), list[Row](), ""
    people.print(f"{chosen.cuts} cuts, seed {seed}, in {folder}")

    def tell(text: str) -> None:
        people.print(f"{time.monotonic() - began:6.0f} s  {text}")

    bench = Bench(folder, seed, tell)
    try:
        with bench.ready():
            play(bench, judge.plan(seed, chosen.cuts), rows)
    except debian.CannotBuildError as error:
        people.print(f"lab: {error}")
        return 3
    except (SilentError, NotObservedError) as error:
        problem = str(error)
    report = {
        "seed": seed,
        "cuts": len(rows),
        "seconds": round(time.monotonic() - began),
        "update_seconds": round(bench.update_seconds, 1),
        "boot_seconds": round(bench.boot_seconds, 1),
        "rows": [asdict(row) for row in rows],
        "problem": problem,
    }
    if chosen.json:
        print(json.dumps(report, indent=2))
    else:
        Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table(rows))
    faults = [fault for row in rows for fault in row.faults] + [problem] * bool(problem)
    if faults or len(rows) < chosen.cuts:
        people.print(
            f"lab: {len(faults)} faults, the first: {faults[0]}; disk and console are kept in {folder}"
        )
        return 1
    people.print(
        f"after each of {len(rows)} cuts the device was whole, and it ended on the release it was to run"
    )
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
