"""The page of faults names tests that exist, and leaves no fault out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = re.findall(r"^\| ([RDH]\d+) \| .+? \| (.+) \|$", (ROOT / "docs" / "faults.md").read_text(), re.M)
COUNTS = {"R": 13, "D": 16, "H": 7}


@cache
def names_in(file: str) -> set[str]:
    """Names of the tests in a file; none when there is no such file."""
    path = ROOT / file
    if not path.is_file():
        return set()
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_fault_has_one_row() -> None:
    wanted = [f"{kind}{number}" for kind, most in COUNTS.items() for number in range(1, most + 1)]
    assert [number for number, _ in ROWS] == wanted


@pytest.mark.parametrize(("number", "cell"), [pytest.param(*row, id=row[0]) for row in ROWS])
def test_the_names_in_a_fault_exist(number: str, cell: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", cell)
    assert named and len(named) == cell.count("`") // 2, f"{number} names something that is no test"
    assert [f"{file}::{test}" for file, test in named if test not in names_in(file)] == []
