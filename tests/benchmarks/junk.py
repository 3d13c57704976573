"""How fast ingest is amid malformed bodies: the same backlog with and without them, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.broker import Broker
from tests.benchmarks.contest import flaghoist, register


def measure(
    folder: Path, *, devices: int, good: int, bad: int, rounds: int, say: Callable[[str], None]
) -> dict[str, float]:
    """Return messages/s of `good` heartbeats alone, and with `bad` malformed ones strewn among them.

    `malformed_ratio` is the median over the rounds of how the second compares with the first.
    """
    clean: list[float] = []
    mixed: list[float] = []
    with Broker(folder) as broker:
        register(folder, devices)
        flaghoist(broker, 0)
        for number in range(2 * rounds + 1):
            strewn = bad if number % 2 == 0 else 0
            publishing = broker.fill(devices, good, first=1 + number * (good // devices), bad=strewn)
            assert publishing.wait() == 0
            drained = flaghoist(broker, good + strewn)
            if number:  # the first one leaves every device with a row
                (mixed if strewn else clean).append(drained.rate)
    for number, (without, among) in enumerate(zip(clean, mixed, strict=True), 1):
        say(f"  round {number}: {without:,.0f} clean, {among:,.0f} with {bad:,} malformed among {good:,}")
    return {
        "clean_rate": statistics.median(clean),
        "malformed_rate": statistics.median(mixed),
        "malformed_ratio": statistics.median(b / a for a, b in zip(clean, mixed, strict=True)),
    }
