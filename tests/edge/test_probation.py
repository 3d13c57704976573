"""When a new release has proven itself, as a table of rounds."""

from __future__ import annotations

import pytest

from edge.updating import probation
from edge.updating.probation import Finding

OK, BAD, LATER = Finding(), Finding("broken"), Finding("warming up", later=True)

ROWS = [
    pytest.param([OK] * 11, 10, "", 11, id="well throughout"),
    pytest.param([OK], 0, "", 1, id="no probation is one round"),
    pytest.param([BAD], 0, "broken", 1, id="no probation, broken"),
    pytest.param([BAD, BAD, *[OK] * 9], 10, "", 11, id="comes up within the grace"),
    pytest.param([BAD] * 6, 10, "broken", 6, id="not up after the grace"),
    pytest.param([OK, BAD], 10, "broken", 2, id="breaks after it was well"),
    pytest.param([*[LATER] * 10, OK], 10, "", 11, id="later for all but the last round"),
    pytest.param([LATER] * 14, 10, "warming up", 14, id="later to the end, and beyond it"),
    pytest.param([*[OK] * 10, LATER, OK], 10, "", 12, id="later at the end, well right after it"),
    pytest.param([*[OK] * 10, LATER, BAD], 10, "broken", 12, id="later at the end, broken right after it"),
    pytest.param([*[OK] * 10, BAD], 10, "broken", 11, id="breaks in the last round"),
    pytest.param([OK, LATER, *[OK] * 9], 10, "", 11, id="later in between"),
]


@pytest.mark.parametrize(("rounds", "seconds", "problem", "asked"), ROWS)
def test_judge(rounds: list[Finding], seconds: float, problem: str, asked: int) -> None:
    now = [100.0]
    left = list(rounds)

    def sleep(passed: float) -> None:
        now[0] += passed

    answer = probation.judge(
        lambda: left.pop(0), seconds=seconds, interval=1.0, steady=lambda: now[0], sleep=sleep
    )
    assert (answer, len(rounds) - len(left)) == (problem, asked)
