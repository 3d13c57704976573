"""The demonstration itself, as `make demo` runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.heavy
@pytest.mark.timeout(400)
def test_the_demo_observes_everything_it_tells_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.demo"],
        cwd=Path(__file__).parents[2],
        env={
            "PATH": "/usr/sbin:/usr/bin:/bin",
            "TMPDIR": str(tmp_path),
            "COLUMNS": "120",
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = [line for line in done.stdout.splitlines() if "shop-" in line][-5:]
    assert all("kiosk-1-" in line for line in table)
    assert "rolled_back" in table[0]
    assert list(tmp_path.iterdir()) == []
