"""What a rollout costs at any fleet size.

    python -m tests.benchmarks.rollout [--json] [--small] [--only promote,list,eligibility,fanout,halt]

promote      time of a promotion, and rows it writes, with 1,000 to 1,000,000 registered devices
list         first page of GET /devices by role and segment over HTTP, with as many
eligibility  requests/s of GET eligibility against those of a bare handler in the same server
fanout       time until 10,000 connected devices hold a new manifest, from the POST, against Mosquitto alone
halt         from the report that crosses the threshold to the paused manifest at the first of 1,000 simulated devices

`--small` runs everything with little, to see that it runs. The last line with `--json` is one object of the figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import structlog

if not __package__:  # run as a file: the project is two folders up
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.benchmarks import fanout, requests
from tests.benchmarks.registered import ADMIN, fill, open_world
from tests.e2e.fleet import Fleet
from tests.e2e.rehearsal import Rehearsal, halted, publish
from tests.hub.world import World

SIZES = (1_000, 10_000, 100_000, 1_000_000)
SMALL_SIZES = (100, 1_000, 10_000)
PROMOTES = 21
PARTS = ("promote", "list", "eligibility", "fanout", "halt")


def say(text: str) -> None:
    """Tell a person; figures go to standard output alone with `--json`."""
    print(text, file=sys.stderr, flush=True)


def promotes(world: World, first: int) -> tuple[float, int]:
    """Return the median time of a promotion (ms) of a fresh release, and the rows that one writes."""
    connection = world.store._connection()
    spent, written = [], set()
    for sequence in range(first, first + PROMOTES):
        release = world.publish(sequence)
        world.now += 1000
        before, began = connection.total_changes, time.perf_counter()
        world.deployment.promote(release, "canary", 100, ADMIN)
        spent.append((time.perf_counter() - began) * 1000)
        written.add(connection.total_changes - before)
    # The first promotion has nobody to supersede; all others write the same.
    return statistics.median(spent), max(written)


def promote_and_list(folder: Path, sizes: tuple[int, ...], parts: list[str]) -> dict[str, Any]:
    """Grow one fleet through `sizes`; promote at each, read at the last."""
    figures: dict[str, Any] = {}
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    world = open_world(folder)
    have, sequence, by_size, asked = 0, 2, {}, []
    with world.client:
        for size in sizes:
            began = time.perf_counter()
            fill(world, have, size)
            have = size
            say(f"  {size:>9,} devices registered ({time.perf_counter() - began:.1f} s to fill)")
            if "promote" in parts:
                by_size[size] = promotes(world, sequence)
                sequence += PROMOTES
                say(f"  promote at {size:>9,}: {by_size[size][0]:7.2f} ms, {by_size[size][1]} rows written")
        if by_size:
            figures["promote_ms"] = {str(size): round(ms, 2) for size, (ms, _) in by_size.items()}
            figures["promote_ratio_1m"] = round(by_size[sizes[-1]][0] / by_size[sizes[0]][0], 2)
            figures["rows_written_1m"] = by_size[sizes[-1]][1]
            figures["rows_written_1k"] = by_size[sizes[0]][1]
        if "eligibility" in parts:
            asked = requests.prepare(world, sequence)
    world.store.close()
    if {"list", "eligibility"} & set(parts):
        with requests.Serving(folder) as serving:
            if "list" in parts:
                pages = requests.pages(serving)
                for name, ms in pages.items():
                    say(f"  first page {name:<28} {ms:7.2f} ms")
                figures["list_ms_by_filter"] = {name: round(ms, 2) for name, ms in pages.items()}
                figures["list_ms_1m"] = round(max(pages.values()), 2)
            if "eligibility" in parts:
                figures |= requests.eligibility(serving, asked, say)
    return figures


def halt(folder: Path, devices: int) -> dict[str, Any]:
    """Rehearse a release that fails on 8 % of `devices`, with a threshold of 5 %."""
    fleet = Fleet(folder)
    try:
        fleet.start_hub()
        fleet.make_trust()
        fleet.make_repo()
        release = publish(fleet, 1, spread=max(15, devices // 20))
        with Rehearsal(fleet, devices, "--fail", "8%", "--seconds-per-step", "1") as rehearsal:
            fleet.flaghoist("release", "promote", release, "--segment", "canary")
            halted(fleet, release, seconds=300)
            done = rehearsal.finish()
    finally:
        fleet.close()
    (rollout,) = done["rollouts"]
    found = rollout["halt"]
    say(
        f"  halt with {devices} devices: first heard after {found['first_heard_ms']:.0f} ms, by the last after "
        f"{found['last_heard_ms']:.0f} ms; {found['began_before_crossing']} had begun, {found['began_until_heard']} "
        f"began before they heard of it, {found['began_while_paused']} after"
    )
    return {
        "halt_ms": found["first_heard_ms"],
        "halt_last_ms": found["last_heard_ms"],
        "began_after_halt": found["began_while_paused"],
        "simulated_kb_per_device": done["memory_kb_per_device"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="What a rollout costs at any fleet size.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", default=",".join(PARTS))
    chosen = parser.parse_args()
    parts = chosen.only.split(",")
    if set(parts) - set(PARTS):
        parser.error(f"--only takes some of {','.join(PARTS)}")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="rollout-") as name:
        folder = Path(name)
        if {"promote", "list", "eligibility"} & set(parts):
            say("registered devices")
            sizes = SMALL_SIZES if chosen.small else SIZES
            (folder / "registered").mkdir()
            figures |= promote_and_list(folder / "registered", sizes, parts)
        if "fanout" in parts:
            say("fan-out")
            (folder / "fanout").mkdir()
            figures |= fanout.measure(folder / "fanout", 200 if chosen.small else 10_000, say)
        if "halt" in parts:
            say("halt")
            (folder / "halt").mkdir()
            figures |= halt(folder / "halt", 50 if chosen.small else 1_000)
    if chosen.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
