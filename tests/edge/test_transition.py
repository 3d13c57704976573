"""How long each phase took, by a wall clock that may be put right in the middle of one."""

from __future__ import annotations

import pytest

from edge.storage.state import State, Update
from edge.updating import transition
from tests.topics import kit
from topics import codec
from topics.messages import UpdateResult

DAY = 86_400_000
YEARS = 56 * 365 * DAY


@pytest.mark.parametrize(
    ("spent", "told"),
    [
        pytest.param(1_500, {"probation": 1_500}, id="a phase"),
        pytest.param(30 * DAY, {"probation": 30 * DAY}, id="a month of it"),
        pytest.param(YEARS, {}, id="D12 from 1970 to the present"),
        pytest.param(-YEARS, {"probation": 0}, id="D12 and back"),
    ],
)
def test_a_phase_in_which_the_clock_jumped_is_not_told_of_and_its_report_can_be_read(
    spent: int, told: dict[str, int]
) -> None:
    update = Update(release=kit.release(), sources=[], attempt=1, state="probation", entered=YEARS)
    after = transition.step(State(id="00" * 8, update=update), "committed", YEARS + spent, (1, "0" * 8))
    report = codec.decode(after.outbox[-1].body, UpdateResult, limit=65_536)
    assert report.phases == told
