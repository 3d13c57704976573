"""The game day of `make chaos`: its small form, and that its page says what it plays."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.console import Console

from tests.e2e.gameday import SCENARIOS, Seen, play, table

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "recovery.md"


def test_the_page_names_what_is_played() -> None:
    text = PAGE.read_text().partition("`make chaos`")[2]
    assert re.findall(r"^\| `([a-z-]+)` \|", text, re.M) == list(SCENARIOS)


def test_what_was_seen_is_told_with_its_time() -> None:
    console = Console(record=True, width=120)
    console.print(
        table([Seen("hub killed", "started again", 1.25, "no result is missing"), Seen("x", "y", None, "-")])
    )
    lines = console.export_text().splitlines()
    assert lines[1].split() == [
        "hub",
        "killed",
        "started",
        "again",
        "1.2",
        "s",
        "no",
        "result",
        "is",
        "missing",
    ]
    assert lines[2].split() == ["x", "y", "-", "-"]


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_a_small_game_day_is_noticed_and_survived(tmp_path: Path) -> None:
    found = play(tmp_path / "day", ["update-crashes", "tampered-bundle", "broker-killed"], print)
    assert len(found) == 3
    assert all(seen.seconds is not None for seen in found)
    Console(width=120).print(table(found))
