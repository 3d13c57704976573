"""`flaghoist ca`: what the hub is asked, and what is shown."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hub.cli.conftest import FakeHub, Flaghoist

STANDING: dict[str, Any] = {
    "state": "announced",
    "serving": {"sha256": "aa", "not_after": "2056-11-18T10:00:00.000Z"},
    "trusted": [
        {"sha256": "aa", "not_after": "2056-11-18T10:00:00.000Z"},
        {"sha256": "bb", "not_after": "2056-11-19T10:00:00.000Z"},
    ],
    "waiting": 3,
}


def test_cas_are_shown_with_the_one_that_the_broker_shows(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on("GET /trust/ca", (200, STANDING))
    ran = flaghoist("ca", "show")
    assert ran.code == 0
    assert ran.out.splitlines()[1:] == ["aa\t2056-11-18T10:00:00Z\tyes", "bb\t2056-11-19T10:00:00Z\tno"]
    assert flaghoist("ca", "show", "--json").json == STANDING


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["announce"], {"step": "announce", "leave_behind": False}),
        (["switch"], {"step": "switch", "leave_behind": False}),
        (["switch", "--leave-behind"], {"step": "switch", "leave_behind": True}),
        (["retire"], {"step": "retire", "leave_behind": False}),
        (["retire", "--leave-behind"], {"step": "retire", "leave_behind": True}),
    ],
)
def test_a_step_leaves_nobody_behind_unless_it_is_said(
    flaghoist: Flaghoist, hub: FakeHub, words: list[str], asked: dict[str, Any]
) -> None:
    hub.on("POST /trust/ca/steps", (200, STANDING))
    assert flaghoist("ca", *words, "--json").json == STANDING
    assert hub.requests[0].json == asked


def test_a_refusal_is_one_sentence(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on("POST /trust/ca/steps", (409, {"detail": "3 devices wait.", "rule": "ca_waiting"}))
    ran = flaghoist("ca", "switch")
    assert ran.code == 1 and "3 devices wait" in ran.err
