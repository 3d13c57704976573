"""How fast ingest takes in what a fleet reports, against Mosquitto alone and against what people build first.

    python -m tests.benchmarks.ingest [--json] [--small] [--only contest,slow,malformed,growth,answers]

contest  a queued backlog drained by mosquitto_sub (which throws it away) and by Flaghoist, plain and over TLS, of
         1,000, 5,000 and 100,000 devices: medians of interleaved rounds
slow     the same by paho and aiomqtt into SQLite
malformed  the same backlog with malformed bodies among it and without
growth   bytes in the database per device-day at one heartbeat a minute
answers  p99 of the HTTP API of a real hub while its ingest takes 20,000 messages/s

`--small` runs everything with little, to see that it runs. The last line with `--json` is one object of the figures.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

if not __package__:  # run as a file: the project is two folders up
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.benchmarks import answers, contest, growth, junk, options
from tests.benchmarks.broker import Drained
from tests.benchmarks.contest import Contender, Contest

PARTS = ("contest", "slow", "malformed", "growth", "answers")
NAMES = {
    "mosquitto_sub": "mosquitto_sub, discarding",
    "flaghoist": "Flaghoist",
    "mosquitto_sub_tls": "mosquitto_sub, discarding, TLS",
    "flaghoist_tls": "Flaghoist, TLS",
    "with_paho": "paho + SQLite",
    "with_aiomqtt": "aiomqtt + SQLite",
    "live": "Flaghoist, whole hub, live",
}


class Heat(NamedTuple):
    """One contest: who, with how many devices, messages a round, and rounds that count."""

    contenders: tuple[Contender, Contender]
    devices: int
    messages: int
    rounds: int


PLAIN = (contest.mosquitto_sub, contest.flaghoist)
TLS = (contest.mosquitto_sub_tls, contest.flaghoist_tls)
SLOW = (contest.with_paho, contest.with_aiomqtt)
HEATS = (
    Heat(PLAIN, 1_000, 300_000, 5),
    Heat(PLAIN, 5_000, 500_000, 5),
    Heat(PLAIN, 100_000, 500_000, 5),
    Heat(TLS, 5_000, 300_000, 5),
    Heat(TLS, 100_000, 500_000, 3),
)
SMALL_HEATS = (Heat(PLAIN, 100, 2_000, 1), Heat(PLAIN, 1_000, 5_000, 1), Heat(TLS, 100, 2_000, 1))
SLOW_HEATS = (Heat(SLOW, 5_000, 50_000, 3), Heat(SLOW, 100_000, 100_000, 3))
SMALL_SLOW_HEATS = (Heat(SLOW, 100, 1_000, 1),)


def say(text: str) -> None:
    """Tell a person; figures go to standard output alone with `--json`."""
    print(text, file=sys.stderr, flush=True)


def compete(folder: Path, heats: Sequence[Heat], lines: list[str]) -> dict[str, Any]:
    """Hold `heats`; return their figures and add to the table's `lines`."""
    figures: dict[str, Any] = {}
    for number, heat in enumerate(heats):
        place = folder / f"heat-{number}"
        place.mkdir()
        held = contest.hold(
            place, heat.contenders, devices=heat.devices, messages=heat.messages, rounds=heat.rounds, say=say
        )
        figures |= _figures(heat, held, lines)
    return figures


def _figures(heat: Heat, held: Contest, lines: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    sub = next((name for name in held.rounds if name.startswith("mosquitto")), None)
    for name in held.rounds:
        median = held.median(name)
        ratio = held.ratio(name, sub) if sub else None
        lines.append(_line(heat.devices, NAMES[name], median, ratio))
        key = f"{name}_{_short(heat.devices)}"
        found |= {f"{key}_rate": round(median.rate), f"{key}_cpu": round(median.cpu, 2)}
        found[f"{key}_memory_mb"] = round(median.memory, 1)
        if ratio is not None:
            found[f"{key}_ratio"] = round(ratio, 3)
    return found


def _short(devices: int) -> str:
    return f"{devices // 1000}k" if devices % 1000 == 0 else str(devices)


def _line(devices: int, name: str, drain: Drained, ratio: float | None) -> str:
    share = "" if ratio is None or name.startswith("mosquitto") else f"{ratio:.2f}"
    return (
        f"| {devices:>7,} | {name:<30} | {drain.rate:>10,.0f} | {share:>16} | {drain.cpu:>13.1f} "
        f"| {drain.memory:>9.0f} |"
    )


HEAD = (
    f"| devices | {'who':<30} | messages/s | of mosquitto_sub | CPU s/million | memory MB |\n"
    f"|--------:|{'-' * 32}|-----------:|-----------------:|--------------:|----------:|"
)


def summary(found: dict[str, Any], heats: Sequence[Heat]) -> dict[str, Any]:
    """Return the figures by the names that matter: of the usual fleet, and of the largest."""
    usual, largest = (_short(heat.devices) for heat in [h for h in heats if h.contenders is PLAIN][-2:])
    names = {
        "ingest_ratio": f"flaghoist_{usual}_ratio",
        "ingest_ratio_100k": f"flaghoist_{largest}_ratio",
        "ingest_ratio_tls": f"flaghoist_tls_{_short(next(h for h in heats if h.contenders is TLS).devices)}_ratio",
        "memory_mb_100k": f"flaghoist_{largest}_memory_mb",
    }
    smallest = _short(next(heat.devices for heat in heats if heat.contenders is PLAIN))
    growth_of = {
        "growth_1k_to_100k_rate": "rate",
        "growth_1k_to_100k_memory": "memory_mb",
    }
    return {name: found[key] for name, key in names.items()} | {
        name: round(found[f"flaghoist_{largest}_{what}"] / found[f"flaghoist_{smallest}_{what}"], 2)
        for name, what in growth_of.items()
    }


def main() -> None:
    chosen = options.chosen("How fast ingest takes in what a fleet reports.", PARTS)
    figures: dict[str, Any] = {}
    lines: list[str] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="ingest-") as name:
        folder = Path(name)
        for part in PARTS:
            (folder / part).mkdir()
        if "contest" in chosen.parts:
            say("a queued backlog")
            heats = SMALL_HEATS if chosen.small else HEATS
            found = compete(folder / "contest", heats, lines)
            figures |= summary(found, heats) | found
        if "slow" in chosen.parts:
            say("what people build first")
            figures |= compete(folder / "slow", SMALL_SLOW_HEATS if chosen.small else SLOW_HEATS, lines)
        if "malformed" in chosen.parts:
            say("malformed bodies")
            amid = junk.measure(folder / "malformed", **(SMALL_JUNK if chosen.small else JUNK), say=say)
            figures |= {key: round(value, 3) for key, value in amid.items()}
            notes.append(f"amid malformed bodies: {amid['malformed_ratio']:.2f} of the clean rate")
        if "answers" in chosen.parts:
            say("answers while 20,000 messages/s come in")
            load = {"devices": 500, "rate": 2_000, "seconds": 2} if chosen.small else LOAD
            found = answers.measure(folder / "answers", **load, say=say)
            live = Drained(found["live_rate"], found["live_cpu"], found["live_memory_mb"])
            lines.append(_line(load["devices"], NAMES["live"], live, None))
            figures |= {key: round(value, 2) for key, value in found.items()}
            notes.append(
                f"answers at {live.rate:,.0f} messages/s: p99 {found['api_p99_ms']:.1f} ms "
                f"({found['api_p99_ms_quiet']:.1f} ms with nothing coming in)"
            )
        if "growth" in chosen.parts:
            say("growth of the database")
            devices, days = (100, 1) if chosen.small else (200, 7)
            grown = growth.measure(folder / "growth", devices, days)
            figures |= {key: round(value) for key, value in grown.items()}
            notes.append(
                f"database per device-day: {grown['bytes_per_device_day']:.0f} bytes (1 h "
                f"{grown['bytes_per_device_day_1h']:.0f}, 1 d {grown['bytes_per_device_day_1d']:.0f}); 5 min, kept "
                f"48 h, {grown['bytes_per_device_day_5m']:.0f}; per device {grown['bytes_per_device']:.0f}"
            )
    say("\n".join([HEAD, *lines, *notes]))
    if chosen.json:
        print(json.dumps(figures))


JUNK = {"devices": 5_000, "good": 200_000, "bad": 10_000, "rounds": 5}
SMALL_JUNK = {"devices": 100, "good": 2_000, "bad": 100, "rounds": 1}
LOAD = {"devices": 100_000, "rate": 20_000, "seconds": 30}


if __name__ == "__main__":
    main()
