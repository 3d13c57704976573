"""`flaghoist recovery`: what the hub is asked, and what people see."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hub.cli.recovery import RULES
from hub.recovery import rules
from hub.recovery.routes import RedeployRequest, Why
from tests.hub.cli.conftest import FakeHub, Flaghoist

SEEN: dict[str, Any] = {
    "device_id": "shop-1",
    "role": "kiosk",
    "segment": "canary",
    "running": "kiosk-1-aaaaaaaaaaaa",
    "quarantine": {
        "rule": "safe_mode",
        "reason": "three failures",
        "by": "rule:quarantine-safe_mode",
        "since": "2026-11-25T10:00:00.000Z",
    },
    "in_safe_mode": True,
    "stays": [{"entry": "own-1-1", "reason": "three failures"}],
    "diagnostics": {
        "at": "2026-11-25T10:00:01.000Z",
        "checks": [
            {"name": "clock", "verdict": "pass", "detail": "right", "remedy": ""},
            {"name": "memory", "verdict": "fail", "detail": "2% free", "remedy": "Stop something."},
        ],
    },
    "redeploy": {"allowed": False, "detail": "its diagnostics do not pass (memory)"},
    "commands": [{"id": "c-1", "kind": "collect-diagnostics", "state": "done"}],
}
COMMAND = {"id": "c-2", "kind": "redeploy", "expires_at": "2026-11-26T10:00:00.000Z", "locked": False}


def test_the_rules_are_those_of_the_hub() -> None:
    assert RULES == rules.RULES


def test_a_devices_trouble_is_shown_with_what_fails_and_the_remedy(
    flaghoist: Flaghoist, hub: FakeHub
) -> None:
    hub.on("GET /recovery/shop-1", (200, SEEN))
    ran = flaghoist("recovery", "status", "shop-1")
    assert (ran.code, ran.err) == (0, "")
    assert "quarantine\tsafe_mode: three failures\n" in ran.out
    assert "redeploy\trefused: its diagnostics do not pass (memory)\n" in ran.out
    assert "fail\tmemory\t2% free\tStop something.\n" in ran.out
    assert "clock" not in ran.out
    assert "c-1\tcollect-diagnostics\tdone" in ran.out
    assert flaghoist("recovery", "status", "shop-1", "--json").json == SEEN


def test_a_device_without_trouble_is_shown_as_that(flaghoist: Flaghoist, hub: FakeHub) -> None:
    well: dict[str, Any] = {
        "device_id": "shop-1",
        "quarantine": None,
        "stays": [],
        "redeploy": {"allowed": True},
    }
    hub.on("GET /recovery/shop-1", (200, well))
    ran = flaghoist("recovery", "status", "shop-1")
    assert "quarantine\t-\n" in ran.out and "redeploy\tallowed\n" in ran.out


def test_the_fleets_quarantine_is_listed_over_all_pages(flaghoist: Flaghoist, hub: FakeHub) -> None:
    item = {"device_id": "shop-1", "role": "kiosk", "segment": "canary", **SEEN["quarantine"]}
    other = {**item, "device_id": "shop-2"}
    hub.on("GET /recovery?rule=safe_mode", (200, {"items": [item], "next_cursor": "shop-1"}))
    hub.on("GET /recovery?rule=safe_mode&cursor=shop-1", (200, {"items": [other], "next_cursor": None}))
    ran = flaghoist("recovery", "list", "--rule", "safe_mode")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[1].startswith("shop-1\tkiosk\tcanary\tsafe_mode\t2026-11-25T10:00:00Z\t")
    assert flaghoist("recovery", "list", "--rule", "safe_mode", "--json").json == [item, other]


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        pytest.param("enter", "enter", id="enter"),
        pytest.param("leave", "leave", id="leave"),
        pytest.param("hold", "quarantine", id="hold"),
        pytest.param("release", "release", id="release"),
    ],
)
def test_what_people_order_carries_their_reason(
    flaghoist: Flaghoist, hub: FakeHub, verb: str, path: str
) -> None:
    hub.on(f"POST /recovery/shop-1/{path}", (200, SEEN))
    ran = flaghoist("recovery", verb, "shop-1", "--reason", "smells of smoke")
    assert ran.code == 0
    assert hub.requests[0].json == {"reason": "smells of smoke"}
    msgspec.convert(hub.requests[0].json, Why)


def test_a_redeploy_names_the_release_and_tells_the_command(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on("POST /recovery/shop-1/redeploy", (201, COMMAND))
    ran = flaghoist("recovery", "redeploy", "shop-1", "--release", "kiosk-2-aaaaaaaaaaaa")
    assert (ran.code, ran.out) == (0, "c-2 redeploy queued until 2026-11-26T10:00:00Z\n")
    assert hub.requests[0].json["releaseId"] == "kiosk-2-aaaaaaaaaaaa"
    msgspec.convert(hub.requests[0].json, RedeployRequest)
    assert flaghoist("recovery", "redeploy", "shop-1", "--json").json == COMMAND
    assert "releaseId" not in hub.requests[1].json and "policy_exception" not in hub.requests[1].json
    flaghoist("recovery", "redeploy", "shop-1", "--policy-exception", "tills down")
    assert msgspec.convert(hub.requests[2].json, RedeployRequest).policy_exception == "tills down"


def test_a_redeploy_that_is_refused_tells_why(flaghoist: Flaghoist, hub: FakeHub) -> None:
    problem = {"detail": "shop-1 may not be given a release yet: memory.", "rule": "diagnostics"}
    hub.on("POST /recovery/shop-1/redeploy", (409, problem))
    ran = flaghoist("recovery", "redeploy", "shop-1")
    assert (ran.code, ran.out) == (1, "")
    assert "memory (rule diagnostics)" in ran.err


def test_force_without_a_reason_is_wrong_usage(flaghoist: Flaghoist, hub: FakeHub) -> None:
    assert flaghoist("recovery", "redeploy", "shop-1", "--force").code == 2
    assert hub.requests == []


@pytest.mark.parametrize(("verb", "path"), [("collect", "collect-diagnostics"), ("repair", "repair")])
def test_a_device_is_asked_for_what_the_verb_says(
    flaghoist: Flaghoist, hub: FakeHub, verb: str, path: str
) -> None:
    hub.on(f"POST /recovery/shop-1/{path}", (201, COMMAND))
    assert flaghoist("recovery", verb, "shop-1").code == 0
    assert len(hub.requests) == 1


def test_a_command_is_taken_back_by_its_id(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on("DELETE /devices/shop-1/commands/c-2", (200, COMMAND))
    ran = flaghoist("recovery", "cancel", "shop-1", "c-2")
    assert (ran.code, ran.out) == (0, "c-2 cancelled\n")
    assert flaghoist("recovery", "cancel", "shop-1", "c-2", "--json").json["cancelled"] is True
