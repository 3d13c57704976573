"""Secrets are never compared by `==`, which tells by its time how much of a guess was right."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECRET = re.compile(
    r"(^|_)(secret|mac|proof|csrf\w*|verifier|cookie|password|token_sha256|secret_hash|nonce)$"
)
MENTIONED = re.compile(
    r"(secret|mac|proof|csrf\w*|verifier|cookie|password|token_sha256|secret_hash|nonce)\b"
)
ALLOWED = {
    (
        "topics/trust.py",
        "nonce",
    ): "a device compares the hub's answer with its own question, which was sent openly",
}
"""Names that are no secret where they are compared, and why."""


def named(node: ast.expr) -> str:
    """What a compared thing is called: a name, an attribute, or the function that made it."""
    if isinstance(node, ast.Call):
        return named(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return node.id if isinstance(node, ast.Name) else ""


def compared(source: str) -> Iterator[tuple[int, str]]:
    """Every name that `==` or `!=` compares with something that is not written there itself."""
    if not MENTIONED.search(source):
        return  # parsing the whole tree takes seconds
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
            sides = (node.left, node.comparators[0])
            if not any(isinstance(side, ast.Constant) for side in sides):
                yield from ((node.lineno, named(side)) for side in sides)


def test_a_comparison_of_a_secret_is_found() -> None:
    source = "if given != self._mac(text) or row['secret_hash'] == other or mac == '': pass"
    assert [name for _, name in compared(source) if SECRET.search(name)] == ["_mac", "secret_hash"]


@pytest.mark.parametrize("package", ["hub", "topics", "edge"])
def test_no_secret_is_compared_in_a_time_that_tells_of_it(package: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in (ROOT / package).rglob("*.py")
        for line, name in compared(path.read_text())
        if SECRET.search(name) and (str(path.relative_to(ROOT)), name) not in ALLOWED
    }
    assert found == set()
