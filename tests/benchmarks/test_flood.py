"""The benchmark of floods runs and prints every figure. What they come to is not judged, but that nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.flood import KINDS

ROOT = Path(__file__).parents[2]


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_the_small_run_prints_every_figure_and_loses_nothing() -> None:
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / "flood.py"), "--small", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    of_kinds = {f"flood_{what}_{kind}" for what in ("ms", "p99_ms", "ratio") for kind in KINDS}
    assert figures.keys() == {"quiet_ms", "flood_ratio", "flood_lost", *of_kinds}
    assert figures["flood_lost"] == 0
