"""Dry runs of pause, resume and rollback: they say what would happen, and nothing does."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hub.world import World

FREEZE = {"kind": "freeze", "starts_at": "2000-01-01T00:00:00Z", "ends_at": "2100-01-01T00:00:00Z"}


def dry(world: World, release: str, verb: str) -> dict[str, Any]:
    answer = world.client.post(
        f"/releases/{release}/{verb}", json={"reason": "a look"}, params={"dry_run": "true"}
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["dry_run"] is True
    return found


@pytest.fixture
def rollout(world: World) -> tuple[World, str]:
    """A release offered to four devices: one runs it, one is at it, two have not begun."""
    for number in range(4):
        world.device(f"shop-{number}")
        world.heartbeat(f"shop-{number}")
    release = world.publish(1)
    assert world.promote(release, "canary").status_code == 200
    world.result("shop-0", release, "downloading")
    world.result("shop-0", release, "committed")
    world.heartbeat("shop-0", running=(release, 1))
    world.result("shop-1", release, "downloading")
    return world, release


def test_a_pause_would_keep_back_those_that_have_not_begun(rollout: tuple[World, str]) -> None:
    found = dry(*rollout, "pause")
    assert (found["refused_by"], found["devices"], found["in_progress"]) == (None, 2, 1)
    assert found["by_segment"]["canary"] == 2


def test_a_resumption_would_let_them_begin(rollout: tuple[World, str]) -> None:
    world, release = rollout
    world.client.post(f"/releases/{release}/pause")
    found = dry(world, release, "resume")
    assert (found["refused_by"], found["devices"]) == (None, 2)


def test_a_rollback_would_move_those_that_run_the_release(rollout: tuple[World, str]) -> None:
    found = dry(*rollout, "rollback")
    assert (found["refused_by"], found["would_move"], found["more"]) == (None, ["shop-0"], 0)
    assert found["by_segment"] == {"canary": 1}


@pytest.mark.parametrize("verb", ["pause", "rollback"])
def test_nothing_has_happened_after_a_dry_run(rollout: tuple[World, str], verb: str) -> None:
    world, release = rollout
    before = (world.client.get(f"/releases/{release}").json(), world.manifest("canary"), world.events())
    dry(world, release, verb)
    assert (
        world.client.get(f"/releases/{release}").json(),
        world.manifest("canary"),
        world.events(),
    ) == before


def test_the_rule_that_would_refuse_is_named(rollout: tuple[World, str]) -> None:
    world, release = rollout
    world.client.post(f"/releases/{release}/rollback")
    refused = dry(world, release, "pause")
    assert refused["refused_by"] == "state" and "rolled_back" in refused["detail"]


def test_a_policy_that_would_refuse_is_named(rollout: tuple[World, str]) -> None:
    world, release = rollout
    world.client.post(f"/releases/{release}/pause")
    assert world.client.post("/policies", json=FREEZE).status_code == 201
    assert dry(world, release, "resume")["refused_by"] == "policy.freeze"
    assert world.state(release) == "paused"


def test_a_release_that_is_not_there_is_not_found(world: World) -> None:
    answer = world.client.post("/releases/kiosk-9-aaaaaaaaaaaa/pause", params={"dry_run": "true"})
    assert answer.status_code == 404


def test_progress_tells_the_thresholds_and_what_they_are_held_against(rollout: tuple[World, str]) -> None:
    world, release = rollout
    world.result("shop-1", release, "failed")
    found = world.client.get(f"/releases/{release}/progress").json()
    assert found["policy"]["failure"]["max_ratio"] == 0.2
    assert found["segments"][0]["judged"] == {"began": 2, "ended": 2, "failures": 1}
