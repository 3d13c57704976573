"""The benchmark of the agent runs as a whole and prints every figure. What hangs on the machine is not judged."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIGURES = {
    "rss_mb",
    "pss_mb",
    "rss_ratio_bare",
    "wakeups_per_min",
    "cpu_seconds_hour",
    "idle_bytes_day",
    "once_cpu_s",
    "once_wall_s",
}


@pytest.mark.heavy
def test_the_small_run_prints_every_figure_and_a_table() -> None:
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / "agent.py"), "--small", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    wanted = FIGURES | ({"rss_ratio_mender", "rss_mb_mender"} if shutil.which("mender") else set())
    assert set(figures) == wanted
    assert all(math.isfinite(value) for value in figures.values())
    assert figures["once_cpu_s"] > 0
    # Memory hangs on what is loaded, not on how fast the machine is.
    assert figures["rss_mb"] <= 31
    assert figures["rss_ratio_bare"] <= 1.2
