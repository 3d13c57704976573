"""Steps: the shares by which an automatic rollout comes to the whole of a segment, each proved before the next."""

from __future__ import annotations

from typing import Any

import pytest

from hub.deployment import rules
from hub.deployment.policy import SegmentPolicy
from hub.deployment.rules import Counts
from hub.errors import Conflict
from hub.times import rfc3339
from tests.hub.world import EAGER, World
from topics.eligibility import bucket

RELEASE = "kiosk-1-" + "a" * 12
HOUR_MS = 3_600_000
STEPS = SegmentPolicy(least_wait_seconds=60, least_reports=2, success_ratio=0.9, steps=[5.0, 25.0, 100.0])


def policy(steps: list[float], **canary: Any) -> dict[str, Any]:
    own = {"least_wait_seconds": 60, "least_reports": 1, "steps": steps, **canary}
    segments: Any = EAGER["segments"]
    return {**EAGER, "advance": "automatic", "segments": {**segments, "canary": own}}


def within(low: float, high: float, prefix: str = "shop") -> str:
    """Return the id of a device that a share of `high` percent of release 1 takes in, and one of `low` does not."""
    names = (f"{prefix}-{number}" for number in range(100_000))
    return next(name for name in names if low * 100 <= bucket(RELEASE, name) < high * 100)


def commit(world: World, device: str, segment: str = "canary") -> None:
    world.result(device, RELEASE, "committed", segment=segment)


def where(world: World) -> tuple[str, int]:
    found = world.client.get(f"/releases/{RELEASE}").json()
    return found["segment"], found["basis_points"]


def look(world: World, seconds: int = 0) -> tuple[str, int]:
    """Let time pass and the leader look; return where the release is."""
    world.now += seconds * 1000
    world.judge()
    return where(world)


def step(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.client.get(f"/releases/{RELEASE}/progress").json()["step"]
    return found


@pytest.mark.parametrize(
    ("counts", "seconds", "refused_by"),
    [
        pytest.param(Counts(began=2, committed=2), 60.0, None, id="exactly as long and as many as asked"),
        pytest.param(Counts(began=2, committed=2), 59.999, "gate_wait", id="a millisecond too early"),
        pytest.param(Counts(), 60.0, "gate_reports", id="nobody reported"),
        pytest.param(Counts(began=2, committed=1), 60.0, "gate_reports", id="one report too few"),
        pytest.param(Counts(began=2, failed=2), 60.0, "gate_reports", id="none of them good"),
        pytest.param(
            Counts(began=10, committed=9, failed=1), 60.0, None, id="exactly the share of good ones"
        ),
        pytest.param(Counts(began=9, committed=8, lost=1), 60.0, "gate_success", id="one too many is lost"),
        pytest.param(Counts(began=12, committed=9, failed=1), 60.0, None, id="some have not ended"),
    ],
)
def test_a_share_must_show_what_a_segment_must(
    counts: Counts, seconds: float, refused_by: str | None
) -> None:
    found = None
    try:
        rules.check_step(RELEASE, "canary", 500, counts, seconds, STEPS)
    except Conflict as refusal:
        found = refusal.rule
        assert "5% of canary" in refusal.detail
    assert found == refused_by


@pytest.mark.parametrize(
    ("share", "above"),
    [
        pytest.param(0, (500, 2_500, 10_000), id="before the first"),
        pytest.param(500, (2_500, 10_000), id="at a step"),
        pytest.param(600, (2_500, 10_000), id="a person chose a share between two"),
        pytest.param(2_500, (10_000,), id="at the last but one"),
        pytest.param(9_999, (10_000,), id="nearly all"),
        pytest.param(10_000, (10_000,), id="all"),
    ],
)
def test_what_follows_a_share(share: int, above: tuple[int, ...]) -> None:
    assert rules.shares_above(STEPS, share) == above


def test_the_hub_goes_from_step_to_step_as_each_is_proved(world: World) -> None:
    release = world.publish(1, policy=policy([5, 25, 100]))
    first, second, third = within(0, 5), within(5, 25), within(25, 100)
    for name in (first, second, third):
        world.device(name)
    world.client.post(f"/releases/{release}/promote", json={"targetSegment": "canary"})
    assert where(world) == ("canary", 500), "without a percentage it is the policy's first step"
    assert look(world, 600) == ("canary", 500), "nobody reported"
    commit(world, first)
    assert look(world) == ("canary", 2_500), "it had waited long enough"
    assert look(world, 59) == ("canary", 2_500), "each step waits anew"
    assert step(world)["refused_by"] == "gate_wait"
    assert look(world, 1) == ("canary", 10_000), "the share so far has its report"
    assert look(world, 59) == ("canary", 10_000)
    commit(world, second)
    assert look(world, 1)[0] == "early", "the whole segment waits as well, and then the next one begins"


def test_progress_says_at_which_step_a_release_is_and_what_it_waits_for(world: World) -> None:
    release = world.publish(1, policy=policy([5, 25, 100]))
    first = world.device(within(0, 5))
    world.client.post(f"/releases/{release}/promote", json={"targetSegment": "canary"})
    world.now += 60_000
    assert step(world) == {
        "segment": "canary",
        "basis_points": 500,
        "next_basis_points": 2_500,
        "passed": False,
        "refused_by": "gate_reports",
        "detail": f"5% of canary has 0 results for {release}, 0 of them good; 1 and at least one good one are needed.",
    }
    commit(world, first)
    assert (step(world)["passed"], step(world)["refused_by"]) == (True, None)
    world.promote(release, "canary", 100)
    assert step(world) is None


def test_every_step_tells_who_began_it_and_why_and_when_and_why_it_ended(world: World) -> None:
    release = world.publish(1, policy=policy([5, 25, 100]))
    first = world.device(within(0, 5))
    world.device(within(5, 25))
    start = world.now
    world.promote(release, "canary", 5)
    commit(world, first)
    look(world, 60)
    world.now += 1_000
    world.client.post(f"/releases/{release}/rollback", json={"reason": "tills"})
    (canary,) = world.client.get(f"/releases/{release}").json()["stages"]
    assert canary["steps"] == [
        {
            "basis_points": 500,
            "started_at": rfc3339(start),
            "started_by": "admin",
            "start_reason": "",
            "finished_at": rfc3339(start + 60_000),
            "finish_reason": "raised to 25%",
        },
        {
            "basis_points": 2_500,
            "started_at": rfc3339(start + 60_000),
            "started_by": "rule:gate",
            "start_reason": "passed 5% of canary",
            "finished_at": rfc3339(start + 61_000),
            "finish_reason": "rolled back: tills",
        },
    ]


def test_a_share_that_a_person_chose_in_between_is_a_step_of_its_own(world: World) -> None:
    release = world.publish(1, policy=policy([5, 25, 100]))
    first = world.device(within(0, 5))
    world.device(within(25, 100))
    world.promote(release, "canary", 5)
    commit(world, first)
    world.now += 59_000
    assert world.promote(release, "canary", 10).status_code == 200
    assert look(world, 1) == ("canary", 1_000), "the wait begins anew with the share of the person"
    assert look(world, 59) == ("canary", 10_000), "25% would take in nobody more"
    assert world.promote(release, "canary", 50).json()["rule"] == "share_lowered"


def test_the_same_share_again_begins_no_step_anew(world: World) -> None:
    release = world.publish(1, policy=policy([5, 100]))
    first = world.device(within(0, 5))
    world.promote(release, "canary", 5)
    commit(world, first)
    world.now += 59_000
    world.promote(release, "canary", 5)
    assert look(world, 1) == ("canary", 10_000)
    (canary,) = world.client.get(f"/releases/{release}").json()["stages"]
    assert [entry["basis_points"] for entry in canary["steps"]] == [500, 10_000]


def test_without_steps_a_share_that_a_person_chose_stays_theirs(world: World) -> None:
    release = world.publish(1, policy=policy([]))
    first = world.device(within(0, 30))
    world.promote(release, "canary", 30)
    commit(world, first)
    assert look(world, 3_600) == ("canary", 3_000)
    assert step(world) is None


def test_where_people_promote_steps_only_say_which_share_is_next(world: World) -> None:
    release = world.publish(1, policy={**policy([5, 25, 100]), "advance": "by_hand"})
    first = world.device(within(0, 5))
    world.device(within(5, 25))
    body = {"targetSegment": "canary"}
    assert world.client.post(f"/releases/{release}/promote", json=body).json()["basis_points"] == 500
    commit(world, first)
    assert look(world, 3_600) == ("canary", 500)
    preview = world.client.post(f"/releases/{release}/promote?dry_run=true", json=body).json()
    assert preview["basis_points"] == 2_500
    assert world.client.post(f"/releases/{release}/promote", json=body).json()["basis_points"] == 2_500


def test_steps_that_take_in_nobody_more_are_passed_over(world: World) -> None:
    release = world.publish(1, policy=policy([5, 25, 50, 100]))
    world.device(within(25, 50))
    body = {"targetSegment": "canary"}
    assert world.client.post(f"/releases/{release}/promote", json=body).json()["basis_points"] == 5_000


def test_a_step_whose_devices_were_moved_away_is_gone_on_from(world: World) -> None:
    """R5: what is left of a share proves nothing, and must not hold the rollout for good."""
    release = world.publish(1, policy=policy([5, 25, 100]))
    first = world.device(within(0, 5))
    world.device(within(5, 25))
    world.promote(release, "canary", 5)
    world.client.patch(f"/devices/{first}", json={"segment": "general"})
    assert look(world, 59) == ("canary", 500), "it waits all the same"
    assert look(world, 1) == ("canary", 2_500)


def test_time_in_which_a_rollout_stands_still_is_no_waiting_for_a_step_either(world: World) -> None:
    release = world.publish(1, policy=policy([5, 100]))
    first = world.device(within(0, 5))
    world.promote(release, "canary", 5)
    commit(world, first)
    world.now += 30_000
    world.client.post(f"/releases/{release}/pause")
    assert look(world, 3_600) == ("canary", 500)
    assert step(world)["detail"].endswith("for another 30 s.")
    world.client.post(f"/releases/{release}/resume")
    assert look(world, 29) == ("canary", 500)
    assert look(world, 1) == ("canary", 10_000)


def test_a_failure_in_a_step_halts_there(world: World) -> None:
    release = world.publish(1, policy=policy([5, 100]))
    first = world.device(within(0, 5))
    world.promote(release, "canary", 5)
    world.result(first, release, "failed")
    assert look(world, 3_600) == ("canary", 500)
    assert world.state(release) == "halted" and world.manifest("canary").manifest.basis_points == 500


def test_the_next_segment_begins_at_its_own_first_step(world: World) -> None:
    rule = policy([100])
    rule["segments"]["early"] = {"least_wait_seconds": 0, "steps": [10, 100]}
    release = world.publish(1, policy=rule)
    canary = world.device("canary-1")
    world.device(within(0, 10, "early"), "early")
    world.promote(release, "canary")
    commit(world, canary)
    assert look(world, 60) == ("early", 1_000)
    assert world.manifest("early").manifest.basis_points == 1_000


def test_a_scheduled_promotion_comes_before_a_step(world: World) -> None:
    release = world.publish(1, policy=policy([5, 100]))
    first = world.device(within(0, 5))
    world.promote(release, "canary", 5)
    commit(world, first)
    later = world.now + HOUR_MS
    body = {"targetSegment": "canary", "rolloutPercentage": 50, "not_before": rfc3339(later)}
    assert world.client.post(f"/releases/{release}/promote", json=body).status_code == 200
    assert look(world, 600) == ("canary", 500)
    assert look(world, 3_000) == ("canary", 5_000)
