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


@pytest.mark.parametrize(("options", "left"), [([], False), (["--leave-behind"], True)])
def test_a_replacement_leaves_nobody_behind_unless_it_is_said(
    flaghoist: Flaghoist, hub: FakeHub, options: list[str], left: bool
) -> None:
    hub.on("POST /trust/ca/rotate", (200, STANDING))
    assert flaghoist("ca", "rotate", *options, "--json").json == STANDING
    assert hub.requests[0].json == {"leave_behind": left}


def test_a_refusal_is_one_sentence(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on("POST /trust/ca/rotate", (409, {"detail": "3 devices wait.", "rule": "ca_waiting"}))
    ran = flaghoist("ca", "rotate")
    assert ran.code == 1 and "3 devices wait" in ran.err
