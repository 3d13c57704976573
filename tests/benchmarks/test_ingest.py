"""The benchmark of ingest runs as a whole, both ways, and prints every figure. What they come to is not judged."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIGURES = {
    "ingest_ratio",
    "ingest_ratio_100k",
    "ingest_ratio_tls",
    "memory_mb_100k",
    "bytes_per_device_day",
    "bytes_per_device_day_1h",
    "bytes_per_device_day_1d",
    "bytes_per_device_day_5m",
    "api_p99_ms",
    "malformed_ratio",
    "live_rate",
    "live_cpu",
    "live_memory_mb",
    "growth_1k_to_100k_rate",
    "growth_1k_to_100k_memory",
}
ROWS = (
    "mosquitto_sub, discarding",
    "paho + SQLite",
    "aiomqtt + SQLite",
    "Flaghoist",
    "Flaghoist, TLS",
    "whole hub, live",
)


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_the_small_run_prints_every_figure_and_row() -> None:
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / "ingest.py"), "--small", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures.keys() >= FIGURES
    assert all(math.isfinite(value) and value > 0 for value in figures.values())
    # What is kept of a device's day does not hang on how fast this machine is.
    assert figures["bytes_per_device_day"] < 1_024
    for row in ROWS:
        assert row in done.stderr


def test_the_module_says_how_it_is_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.ingest", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0
    for option in ("--json", "--small", "--only"):
        assert option in done.stdout
