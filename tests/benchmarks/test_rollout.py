"""The benchmark of rollouts runs as a whole, both ways, and prints every figure. What they come to is not judged."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIGURES = {
    "promote_ratio_1m",
    "rows_written_1m",
    "rows_written_1k",
    "fanout_ratio_10k",
    "fanout_ms",
    "fanout_alone_ms",
    "eligibility_ratio",
    "eligibility_rate",
    "list_ms_1m",
    "halt_ms",
    "halt_last_ms",
}


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_the_small_run_prints_every_figure_and_a_table() -> None:
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / "rollout.py"), "--small", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures.keys() >= FIGURES
    assert all(math.isfinite(figures[name]) and figures[name] > 0 for name in FIGURES)
    # What a promotion writes, and who begins after a halt, do not hang on how fast this machine is.
    assert figures["rows_written_1m"] == figures["rows_written_1k"]
    assert figures["began_after_halt"] == 0
    for name in FIGURES:
        assert f"| {name} " in done.stderr


def test_the_module_says_how_it_is_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.rollout", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0
    for option in ("--json", "--small", "--only"):
        assert option in done.stdout
