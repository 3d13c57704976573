"""Rollout policies over the API: what would switch a halt off, or shut a window for good, is refused by its name."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.hub.world import World

NIGHT = {"days": [0, 1, 2, 3, 4, 5, 6], "start": "22:00", "end": "05:00"}


def declare(world: World, policy: Any) -> Any:
    envelope = base64.b64encode(world.signed_release(1)).decode()
    return world.client.post("/releases", json={"envelope": envelope, "policy": policy})


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        pytest.param({"failure": {"max_ratio": "0.2"}}, "policy.failure.max_ratio", id="R7 text"),
        pytest.param({"failure": {"max_ratio": 20}}, "policy.failure.max_ratio", id="R7 a percentage"),
        pytest.param(
            {"failure": {"max_ratio": 1}}, "policy.failure.max_ratio", id="R7 all, perhaps meant as 1 percent"
        ),
        pytest.param({"failure": {"max_ratio": 1.01}}, "policy.failure.max_ratio", id="R7 just above all"),
        pytest.param({"failure": {"max_ratio": -0.1}}, "policy.failure.max_ratio", id="R7 less than none"),
        pytest.param({"failure": {"max_ratio": None}}, "policy.failure.max_ratio", id="R7 nothing"),
        pytest.param({"failure": {"max_ratio": True}}, "policy.failure.max_ratio", id="R7 yes"),
        pytest.param({"failure": {"min_reports": 0}}, "policy.failure.min_reports", id="no reports"),
        pytest.param({"failure": {"min_reports": 1.5}}, "policy.failure.min_reports", id="half a report"),
        pytest.param({"failure": {"max_count": -1}}, "policy.failure.max_count", id="a negative count"),
        pytest.param({"failure": {"max_count": "3"}}, "policy.failure.max_count", id="a count as text"),
        pytest.param({"failure": {"max_ration": 0.2}}, "max_ration", id="R7 a misspelt name"),
        pytest.param(
            {"failure": {"update_timeout_seconds": 5}}, "update_timeout_seconds", id="a time-out too short"
        ),
        pytest.param(
            {"segments": {"canary": {"success_ratio": 95}}}, "success_ratio", id="a success percentage"
        ),
        pytest.param(
            {"segments": {"canary": {"least_reports": 0}}}, "least_reports", id="a gate without reports"
        ),
        pytest.param(
            {"segments": {"canary": {"least_wait_seconds": -1}}}, "least_wait_seconds", id="a wait backwards"
        ),
        pytest.param({"segments": {"canry": {}}}, "'canry'", id="a segment that does not exist"),
        *(
            pytest.param({"segments": {"canary": {"steps": steps}}}, "steps", id=f"steps {name}")
            for name, steps in {
                "as text": "5,100",
                "of text": ["5", 100],
                "of nobody": [0, 100],
                "above all": [50, 101],
                "that stand still": [5, 5, 100],
                "that go down": [50, 25, 100],
                "that never end": [5, 50],
                "between two shares": [0.001, 100],
                "without number": [*range(1, 21), 100],
                "of yes": [True],
            }.items()
        ),
        pytest.param({"advance": "yes"}, "policy.advance", id="another way to advance"),
        pytest.param({"spread_seconds": "60"}, "policy.spread_seconds", id="seconds as text"),
        pytest.param({"window": {**NIGHT, "days": [7]}}, "policy.window.days", id="D15 an eighth day"),
        pytest.param({"window": {**NIGHT, "start": "24:00"}}, "policy.window.start", id="D15 a 25th hour"),
        pytest.param(
            {"window": {**NIGHT, "zone": "Mars/Olympus"}}, "policy.window.zone", id="D15 an unknown zone"
        ),
        pytest.param(
            {"window": {**NIGHT, "zone": "../../etc/passwd"}}, "policy.window.zone", id="D15 a path"
        ),
        pytest.param({"window": {**NIGHT, "zone": ""}}, "policy.window.zone", id="D15 no zone"),
        pytest.param({"window": "22:00-05:00"}, "policy.window", id="D15 a window as text"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused_with_the_field(
    world: World, policy: dict[str, Any], field: str
) -> None:
    answer = declare(world, policy)
    assert (answer.status_code, answer.json()["rule"]) == (422, "policy"), answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert field in answer.json()["detail"]
    assert world.client.get("/releases/kiosk-1-aaaaaaaaaaaa").status_code == 404, "nothing of it stays"


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param({}, id="the defaults"),
        pytest.param({"failure": {"max_ratio": 0}}, id="no failure tolerated"),
        pytest.param({"failure": {"max_ratio": 1, "max_count": 0}}, id="by count alone"),
        pytest.param({"window": NIGHT}, id="the device's own zone"),
        pytest.param({"window": {**NIGHT, "zone": "Europe/Berlin"}}, id="a named zone"),
        pytest.param({"window": {**NIGHT, "zone": "UTC"}}, id="UTC"),
    ],
)
def test_a_policy_at_its_edges_is_taken(world: World, policy: dict[str, Any]) -> None:
    assert declare(world, policy).status_code == 201


# 26 October 2025, when Berlin's clocks go back at 03:00 summer time, and 30 March 2025, when they go on at 02:00.
BERLIN = {"days": [6], "start": "02:15", "end": "02:45", "zone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("window", "zone", "minutes", "reason"),
    [
        pytest.param(
            BERLIN, "UTC", 15, "eligible", id="D15 the first 02:15 in Berlin, whatever the device's zone"
        ),
        pytest.param(BERLIN, "UTC", 45, "outside_window", id="D15 the first 02:45"),
        pytest.param(BERLIN, "UTC", 75, "eligible", id="D15 the second 02:15"),
        pytest.param(BERLIN, "UTC", 105, "outside_window", id="D15 the second 02:45"),
        pytest.param(
            {**BERLIN, "zone": "device"}, "Europe/Berlin", 75, "eligible", id="the zone of the device"
        ),
        pytest.param(
            {**BERLIN, "zone": "device"}, "Asia/Tokyo", 75, "outside_window", id="another device's zone"
        ),
        pytest.param(
            {**BERLIN, "zone": "device"}, "Mars/Olympus", 75, "outside_window", id="D15 a zone nobody knows"
        ),
    ],
)
def test_the_window_of_a_policy_reaches_the_device_and_the_answer_about_it(
    world: World, window: dict[str, Any], zone: str, minutes: int, reason: str
) -> None:
    """`minutes` after midnight UTC, which is 02:00 in Berlin by the old clock."""
    world.now = 1_761_436_800_000
    release = world.publish(1, policy={"window": window})
    world.promote(release, "canary")
    world.device("canary-1")
    world.now += minutes * 60_000
    world.heartbeat("canary-1", running=None, zone=zone)
    assert world.client.get(f"/releases/{release}/eligibility/canary-1").json()["reason"] == reason
