"""The benchmark of the audit runs and prints every figure. What they come to is not judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.heavy
@pytest.mark.timeout(120)
def test_the_small_run_prints_every_figure_and_a_table() -> None:
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / "audit.py"), "--small", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures.keys() == {"audit_ratio", "seal_us"}
    assert all(value > 0 for value in figures.values())
    assert "change a device" in done.stderr
