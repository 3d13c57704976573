"""The benchmark of bundles runs, both ways of starting it, and prints what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.heavy
@pytest.mark.parametrize(
    "how",
    [
        pytest.param(["tests/benchmarks/bundle.py"], id="by its path"),
        pytest.param(["-m", "tests.benchmarks.bundle"], id="as a module"),
    ],
)
def test_the_benchmark_prints_its_figures(how: list[str]) -> None:
    command = [sys.executable, *how, "--small", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert {"stage_ratio_4mb", "memory_growth_mb", "delta_overhead_bytes"} <= set(figures)
    # Sizes, not times: these hold on any machine.
    assert figures["delta_overhead_bytes"] <= figures["delta_overhead_bytes_tls"] <= 4096
    assert figures["memory_growth_mb"] <= 4
    assert {"upload_memory_mb", "download_memory_mb"} <= set(figures)
