"""What a rollout costs at any fleet size.

    python -m tests.benchmarks.rollout [--json] [--small] [--only promote,list,eligibility,fanout,halt]

promote      time of a promotion, and rows it writes, with 1,000 to 1,000,000 registered devices
list         first page of GET /devices by role and segment over HTTP, with as many
eligibility  requests/s of GET eligibility against those of a bare handler in the same server
fanout       time until 10,000 connected devices hold a new manifest, from the POST, against Mosquitto alone
halt         from the report that crosses the threshold to the paused manifest at the first of 1,000 simulated devices

`--small` runs everything with little, to see that it runs; the names of figures stay, their sizes do not. The last
line with `--json` is one object of the figures.
"""

from __future__ import annotations

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

from tests.benchmarks import fanout, options, requests
from tests.benchmarks.registered import ADMIN, fill, open_world
from tests.e2e.fleet import Fleet
from tests.e2e.rehearsal import Rehearsal, halted, publish
from tests.hub.world import World

SIZES = (1_000, 10_000, 100_000, 1_000_000)
SMALL_SIZES = (100, 1_000, 10_000)
PROMOTES, SMALL_PROMOTES = 21, 5
PARTS = ("promote", "list", "eligibility", "fanout", "halt")


BOUNDS = {
    "promote_ratio_1m": "at most 1.5",
    "fanout_ratio_10k": "at most 1.2",
    "eligibility_ratio": "at least 0.6",
    "list_ms_1m": "under 20",
    "halt_ms": "under 1000",
}
"""What the figures must come to on a machine that does nothing else."""


def say(text: str) -> None:
    """Tell a person; figures go to standard output alone with `--json`."""
    print(text, file=sys.stderr, flush=True)


def promotes(world: World, first: int, count: int) -> tuple[float, int]:
    """Return the median time of `count` promotions (ms), each of a fresh release, and the rows that one writes."""
    connection = world.store._connection()
    spent, written = [], set()
    for sequence in range(first, first + count):
        release = world.publish(sequence)
        world.now += 1000
        before, began = connection.total_changes, time.perf_counter()
        world.deployment.promote(release, "canary", 100, ADMIN)
        spent.append((time.perf_counter() - began) * 1000)
        written.add(connection.total_changes - before)
    # The first promotion has nobody to supersede; all others write the same.
    return statistics.median(spent), max(written)


def promote_and_list(folder: Path, parts: list[str], *, small: bool) -> dict[str, Any]:
    """Grow one fleet through its sizes; promote at each, read at the last."""
    sizes, count = (SMALL_SIZES, SMALL_PROMOTES) if small else (SIZES, PROMOTES)
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
                by_size[size] = promotes(world, sequence, count)
                sequence += count
                say(f"  promote at {size:>9,}: {by_size[size][0]:7.2f} ms, {by_size[size][1]} rows written")
        if by_size:
            figures["promote_ms"] = {str(size): round(ms, 2) for size, (ms, _) in by_size.items()}
            figures["promote_ratio_1m"] = round(by_size[sizes[-1]][0] / by_size[sizes[0]][0], 2)
            figures["rows_written_1m"] = by_size[sizes[-1]][1]
            figures["rows_written_1k"] = by_size[sizes[0]][1]
        if "eligibility" in parts:
            asked = requests.prepare(world, sequence)
    world.close()
    if {"list", "eligibility"} & set(parts):
        with requests.Serving(folder) as serving:
            if "list" in parts:
                pages = requests.pages(serving)
                for name, ms in pages.items():
                    say(f"  first page {name:<28} {ms:7.2f} ms")
                figures["list_ms_by_filter"] = {name: round(ms, 2) for name, ms in pages.items()}
                figures["list_ms_1m"] = round(max(pages.values()), 2)
            if "eligibility" in parts:
                figures |= requests.eligibility(serving, asked, say, small=small)
    return figures


def halt(folder: Path, devices: int, *options: str, spread: int) -> dict[str, Any]:
    """Rehearse a release that fails on some of `devices`, whose starts are spread over `spread` s."""
    fleet = Fleet(folder)
    try:
        fleet.start_hub()
        fleet.make_trust()
        fleet.make_repo()
        release = publish(fleet, 1, spread=spread)
        with Rehearsal(fleet, devices, *options) as rehearsal:
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


def table(figures: dict[str, Any]) -> str:
    """Return the figures as lines for people, with the bounds that they must keep."""
    rows = [("figure", "measured", "must be"), ("---", "---:", "---")]
    for name, value in figures.items():
        for key, one in value.items() if isinstance(value, dict) else [("", value)]:
            rows.append((f"{name} {key}".strip(), f"{one:g}", BOUNDS.get(name, "")))
    return "\n".join(f"| {name:<44} | {one:>8} | {bound:<12} |" for name, one, bound in rows)


def main() -> None:
    chosen = options.chosen("What a rollout costs at any fleet size.", PARTS)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="rollout-") as name:
        folder = Path(name)
        if {"promote", "list", "eligibility"} & set(chosen.parts):
            say("registered devices")
            (folder / "registered").mkdir()
            figures |= promote_and_list(folder / "registered", chosen.parts, small=chosen.small)
        if "fanout" in chosen.parts:
            say("fan-out")
            (folder / "fanout").mkdir()
            figures |= fanout.measure(folder / "fanout", *((200, 3) if chosen.small else (10_000, 9)), say)
        if "halt" in chosen.parts:
            say("halt")
            (folder / "halt").mkdir()
            figures |= (
                halt(folder / "halt", 40, "--fail", "30%", "--seconds-per-step", "0.2", spread=4)
                if chosen.small
                else halt(folder / "halt", 1_000, "--fail", "8%", "--seconds-per-step", "1", spread=50)
            )
    say(table(figures))
    if chosen.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
