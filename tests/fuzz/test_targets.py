"""Every target takes its examples and what was found before; the heavy part looks for more."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
SECONDS = 2


@pytest.mark.parametrize("name", TARGETS)
def test_examples_and_what_was_found_before_break_nothing(name: str) -> None:
    target, examples = TARGETS[name]
    for data in (*examples, *[path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]):
        target(data)


def test_everything_that_was_found_has_its_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= TARGETS.keys()


@pytest.mark.heavy
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_breaks_it(name: str, tmp_path: Path) -> None:
    """By the same chance each time: what nobody has found yet is looked for by hand, and not by a build of others."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed; there are wheels for x86-64 Linux only")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, str(SECONDS), str(tmp_path), "-seed=1", "-timeout=100"],
        capture_output=True,
        text=True,
        errors="replace",
        cwd=ROOT,
        check=False,
    )
    (counted,) = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    print(counted)
    assert done.returncode == 0, done.stderr[-4_000:]
    assert int(counted.split()[-1]) > len(TARGETS[name][1])
