"""What the lab of power cuts calls a fault, and when it cuts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab import judge

GOOD: dict[str, Any] = {
    "current": "old",
    "running": "old",
    "update": "new",
    "state": "downloading",
    "attempt": 1,
    "reason": "",
    "safe_mode": "",
    "served": None,
    "broken": "",
}
AFTER = GOOD | {"current": "new", "running": "new", "state": "committed", "served": "new"}
DEVICE = {"running": "new", "presence": "online"}
ROW = {"began": 1, "committed": 1, "failed": 0, "rolled_back": 0, "in_progress": 0, "lost": 0}


def test_a_seed_gives_the_same_cuts_again_and_another_gives_others() -> None:
    assert judge.plan(7, 50) == judge.plan(7, 50) != judge.plan(8, 50)


def test_cuts_are_counted_through_and_some_updates_are_cut_again() -> None:
    updates = judge.plan(7, 50)
    cuts = [cut for update in updates for cut in update]
    assert [cut.number for cut in cuts] == list(range(1, 51))
    assert {cut.again for cut in cuts} >= {0, 1}
    assert all(0 <= cut.moment <= 1 for cut in cuts)
    assert [[cut.again for cut in update] for update in updates] == [list(range(len(u))) for u in updates]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="in mid-download"),
        pytest.param({"current": "new", "state": "activating"}, id="swapped and not yet committed"),
        pytest.param({"current": "new", "running": "new", "state": "committed"}, id="committed"),
        pytest.param({"update": "old", "state": "committed"}, id="not begun"),
        pytest.param({"state": "failed"}, id="undone"),
    ],
)
def test_old_or_new_and_whole_is_no_fault(changes: dict[str, Any]) -> None:
    assert judge.at_boot(GOOD | changes, "old", "new") == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"current": None}, "neither old nor new", id="nothing current"),
        pytest.param({"current": "older"}, "neither old nor new", id="a third release"),
        pytest.param({"broken": "app.py has other content"}, "not whole: app.py", id="half a release"),
        pytest.param({"running": None}, "neither old nor new", id="the state is lost"),
        pytest.param({"state": "committed", "running": "new"}, "no update is under way", id="committed without a swap"),
        pytest.param({"safe_mode": "own-1-2"}, "safe mode", id="safe mode"),
    ],
)  # fmt: skip
def test_what_is_neither_is_a_fault(changes: dict[str, Any], said: str) -> None:
    assert any(said in fault for fault in judge.at_boot(GOOD | changes, "old", "new"))


@pytest.mark.parametrize("name", ["update", "state", "running", "current", "served"])
def test_a_device_has_arrived_when_everything_says_so(name: str) -> None:
    assert judge.is_there(AFTER, "new")
    assert not judge.is_there(AFTER | {name: "old"}, "new")


@pytest.mark.parametrize(
    ("device", "row", "said"),
    [
        pytest.param({"running": "old"}, {}, "running is 'old'", id="the hub believes in the old one"),
        pytest.param({"presence": "offline"}, {}, "presence is 'offline'", id="away"),
        pytest.param({}, {"began": 2}, "began is 2", id="counted twice"),
        pytest.param({}, {"failed": 1}, "failed is 1", id="a failure that was made good still counts"),
        pytest.param({}, {"in_progress": 1}, "in_progress is 1", id="under way for ever"),
    ],
)
def test_a_record_of_the_hub_that_is_wrong_is_a_fault(
    device: dict[str, Any], row: dict[str, Any], said: str
) -> None:
    assert judge.record_faults(DEVICE, ROW, "new") == []
    (fault,) = judge.record_faults(DEVICE | device, ROW | row, "new")
    assert said in fault


@pytest.mark.parametrize(
    ("found", "end", "said"),
    [
        pytest.param(GOOD, AFTER, "finished", id="the same attempt"),
        pytest.param(AFTER, AFTER, "was done", id="cut after the end"),
        pytest.param(GOOD, AFTER | {"attempt": 2}, "undone, done at attempt 2", id="a second attempt"),
        pytest.param(GOOD | {"update": "old"}, AFTER, "begun then", id="cut before the beginning"),
    ],
)
def test_an_ending_is_told_in_words(found: dict[str, Any], end: dict[str, Any], said: str) -> None:
    assert judge.ending(found, end, "new") == said


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        pytest.param(GOOD, "downloading", id="under way"),
        pytest.param(AFTER, "committed", id="done"),
        pytest.param(GOOD | {"update": "old", "state": "committed"}, "not begun", id="of the update before"),
        pytest.param(GOOD | {"update": None, "state": None}, "not begun", id="none yet"),
    ],
)
def test_where_an_update_stands_is_told_of_no_other(seen: dict[str, Any], said: str) -> None:
    assert judge.stand(seen, "new") == said
