"""Who takes a release from segment to segment: a person, the policy, or the clock; and what is written down of it."""

from __future__ import annotations

from typing import Any

import pytest

from hub.deployment.judge import judge
from hub.deployment.service import Deployment
from hub.store import SqliteStore
from hub.times import rfc3339
from tests.hub.world import EAGER, World

AUTOMATIC: dict[str, Any] = {**EAGER, "advance": "automatic"}
PATIENT: dict[str, Any] = {
    **AUTOMATIC,
    "segments": {"canary": {"least_wait_seconds": 100, "least_reports": 2}},
}


def begin(world: World, policy: dict[str, Any], percentage: float = 100) -> str:
    """Publish release 1 under `policy`, with one device in each segment, and bring it to canary."""
    release = world.publish(1, policy=policy)
    for segment in ("canary", "early", "general"):
        world.device(f"{segment}-1", segment)
    assert world.promote(release, "canary", percentage).status_code == 200
    return release


def commit(world: World, release: str, device: str) -> None:
    world.heartbeat(device, running=(release, 1))
    world.result(device, release, "committed", segment=device.partition("-")[0])


def at(world: World) -> str:
    segment: str = shown(world)["segment"]
    return segment


def shown(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.client.get("/releases/kiosk-1-aaaaaaaaaaaa").json()
    return found


def bodies(world: World, kind: str) -> list[tuple[str, str, str]]:
    """Actor, reason and body of every event of a kind."""
    with world.store.read() as tx:
        rows = tx.all("SELECT actor, reason, body FROM events WHERE kind = :kind ORDER BY id", {"kind": kind})
    return [(row["actor"], row["reason"], row["body"]) for row in rows]


def schedule(world: World, release: str, segment: str, at_ms: int, **more: Any) -> Any:
    body = {"targetSegment": segment, "not_before": rfc3339(at_ms), **more}
    return world.client.post(f"/releases/{release}/promote", json=body)


# The policy


def test_an_automatic_rollout_walks_the_segments_by_its_gates_alone(world: World) -> None:
    release = begin(world, AUTOMATIC)
    assert world.judge() == [], "nobody has reported yet"
    for segment, following in (("canary", "early"), ("early", "general")):
        commit(world, release, f"{segment}-1")
        assert world.judge() == [release]
        assert (at(world), world.state(release)) == (following, "rolling")
        assert world.judge() == [], "what the segment before has shown is no evidence for this one"
    commit(world, release, "general-1")
    assert world.judge() == [release]
    assert world.state(release) == "complete"


def test_a_rollout_by_hand_waits_for_a_hand(world: World) -> None:
    release = begin(world, EAGER)
    commit(world, release, "canary-1")
    assert world.judge() == [] and at(world) == "canary"


@pytest.mark.parametrize(
    ("commits", "milliseconds", "goes_on"),
    [
        pytest.param(2, 100_000, True, id="exactly the wait and the reports"),
        pytest.param(2, 99_999, False, id="a millisecond too early"),
        pytest.param(1, 100_000, False, id="one report short"),
        pytest.param(0, 10_000_000, False, id="R4 time alone proves nothing"),
    ],
)
def test_an_automatic_rollout_is_strict_at_the_edges(
    world: World, commits: int, milliseconds: int, goes_on: bool
) -> None:
    release = begin(world, PATIENT)
    world.device("canary-2")
    for number in range(commits):
        commit(world, release, f"canary-{number + 1}")
    world.now += milliseconds
    assert world.judge() == ([release] if goes_on else [])
    assert at(world) == ("early" if goes_on else "canary")


def test_only_time_can_bring_an_automatic_rollout_on(world: World) -> None:
    release = begin(world, PATIENT)
    world.device("canary-2")
    commit(world, release, "canary-1")
    commit(world, release, "canary-2")
    assert world.judge() == []
    world.now += 100_000
    assert world.judge() == [release], "no report came, the wait is over"


def test_a_paused_rollout_does_not_advance_and_its_pause_is_no_waiting(world: World) -> None:
    release = begin(world, PATIENT)
    world.device("canary-2")
    commit(world, release, "canary-1")
    commit(world, release, "canary-2")
    world.now += 60_000
    world.client.post(f"/releases/{release}/pause")
    world.now += 500_000
    assert world.judge() == []
    world.client.post(f"/releases/{release}/resume")
    world.now += 39_999
    assert world.judge() == []
    world.now += 1
    assert world.judge() == [release] and at(world) == "early"


def test_a_share_of_a_segment_is_widened_by_hand_before_the_policy_goes_on(world: World) -> None:
    release = begin(world, AUTOMATIC, percentage=99.99)
    commit(world, release, "canary-1")
    assert world.judge() == []
    world.promote(release, "canary")
    assert world.judge() == [release]


def test_a_failing_segment_halts_before_it_could_advance(world: World) -> None:
    release = begin(world, AUTOMATIC)
    world.device("canary-2")
    commit(world, release, "canary-1")
    world.result("canary-2", release, "failed")
    assert world.judge() == [release]
    assert (world.state(release), at(world)) == ("halted", "canary")


# What is written down


def test_every_stage_tells_who_began_it_and_why_and_when_and_why_it_ended(world: World) -> None:
    release = begin(world, AUTOMATIC)
    start = world.now
    world.now += 5_000
    commit(world, release, "canary-1")
    world.judge()
    world.now += 5_000
    world.client.post(f"/releases/{release}/rollback", json={"reason": "tills"})
    canary, early = shown(world)["stages"]
    assert canary == {
        "segment": "canary",
        "started_at": rfc3339(start),
        "started_by": "admin",
        "start_reason": "",
        "full_at": rfc3339(start),
        "finished_at": rfc3339(start + 5_000),
        "finish_reason": "promoted to early",
        "steps": [
            {
                "basis_points": 10_000,
                "started_at": rfc3339(start),
                "started_by": "admin",
                "start_reason": "",
                "finished_at": rfc3339(start + 5_000),
                "finish_reason": "promoted to early",
            }
        ],
    }
    assert (early["started_by"], early["start_reason"]) == ("rule:gate", "passed the gate of canary")
    assert (early["finished_at"], early["finish_reason"]) == (rfc3339(start + 10_000), "rolled back: tills")
    by_hand, by_rule = bodies(world, "release.promoted")
    assert (by_hand[0], by_rule[0], by_rule[1]) == ("admin", "rule:gate", "passed the gate of canary")


def test_a_superseded_release_ends_its_stage(world: World) -> None:
    begin(world, AUTOMATIC)
    second = world.publish(2)
    world.promote(second, "canary")
    (canary,) = shown(world)["stages"]
    assert canary["finish_reason"] == f"{second} was promoted"


# Passing over the gate


def test_a_gate_is_passed_over_for_a_reason_that_is_written_down(world: World) -> None:
    release = begin(world, EAGER)
    body = {"targetSegment": "early", "override": True}
    refused = world.client.post(f"/releases/{release}/promote", json=body)
    assert refused.status_code == 422 and refused.json()["rule"] == "override_reason"
    assert world.client.post(f"/releases/{release}/promote", json={**body, "reason": " "}).status_code == 422
    passed = world.client.post(f"/releases/{release}/promote", json={**body, "reason": "no canaries here"})
    assert passed.status_code == 200 and at(world) == "early"
    actor, reason, written = bodies(world, "release.promoted")[-1]
    assert (actor, reason) == ("admin", "no canaries here") and '"overridden":"gate_reports"' in written


@pytest.mark.parametrize(
    ("target", "verb", "rule"),
    [
        pytest.param("general", "", "segment_order", id="not the order of segments"),
        pytest.param("early", "pause", "state", id="not a pause"),
    ],
)
def test_nothing_but_the_gate_is_passed_over(world: World, target: str, verb: str, rule: str) -> None:
    release = begin(world, EAGER)
    if verb:
        world.client.post(f"/releases/{release}/{verb}")
    body = {"targetSegment": target, "override": True, "reason": "now"}
    assert world.client.post(f"/releases/{release}/promote", json=body).json()["rule"] == rule


def test_after_a_halt_that_was_resumed_earlier_successes_are_still_evidence(world: World) -> None:
    release = begin(world, EAGER)
    world.device("canary-2")
    commit(world, release, "canary-1")
    world.result("canary-2", release, "failed")
    assert world.judge() == [release]
    world.now += 1
    world.client.post(f"/releases/{release}/resume", json={"reason": "its disk was full"})
    assert world.promote(release, "early").status_code == 200, "the failure was looked at"
    canary = world.client.get(f"/releases/{release}/progress").json()["segments"][0]
    assert (canary["committed"], canary["failed"]) == (1, 1), "and is still shown"


# The clock


def test_a_scheduled_release_starts_at_its_time_and_not_before(world: World) -> None:
    release = world.publish(1)
    answer = schedule(world, release, "canary", world.now + 60_000, rolloutPercentage=12.5, reason="night")
    assert answer.status_code == 200 and answer.json()["state"] == "published"
    assert answer.json()["scheduled"] == {
        "segment": "canary",
        "basis_points": 1250,
        "not_before": rfc3339(world.now + 60_000),
        "actor": "admin",
    }
    world.now += 59_999
    assert world.judge() == [] and world.manifest("canary").candidate is None
    world.now += 1
    assert world.judge() == [release] and world.judge() == []
    assert shown(world)["scheduled"] is None and shown(world)["state"] == "rolling"
    assert world.manifest("canary").manifest.basis_points == 1250
    assert bodies(world, "release.promoted")[0][:2] == ("rule:schedule", "scheduled by admin: night")


def test_a_schedule_survives_a_restart(world: World) -> None:
    release = world.publish(1)
    schedule(world, release, "canary", world.now + 60_000)
    world.now += 3_600_000
    store = SqliteStore(world.files.path("00").parents[2] / "hub.db")
    again = Deployment(store, world.signer, [], lambda: world.now, lambda: 0)
    assert judge(store, again, now=world.now, observed_since=0) == [release]
    store.close()
    assert world.state(release) == "rolling"


@pytest.mark.parametrize("verb", ["pause", "rollback"])
def test_a_schedule_of_a_release_that_is_offered_to_nobody_is_cancelled(world: World, verb: str) -> None:
    release = world.publish(1)
    schedule(world, release, "canary", world.now + 60_000)
    answer = world.client.post(f"/releases/{release}/{verb}", json={"reason": "holiday"})
    assert (answer.json()["state"], answer.json()["scheduled"]) == ("published", None)
    world.now += 60_000
    assert world.judge() == [] and world.state(release) == "published"
    assert bodies(world, "release.unscheduled") == [("admin", "holiday", "{}")]


@pytest.mark.parametrize(("verb", "state"), [("pause", "paused"), ("rollback", "rolled_back")])
def test_a_schedule_of_a_rollout_under_way_is_cancelled(world: World, verb: str, state: str) -> None:
    release = begin(world, EAGER)
    commit(world, release, "canary-1")
    schedule(world, release, "early", world.now + 60_000)
    assert world.client.post(f"/releases/{release}/{verb}").json()["state"] == state
    world.now += 60_000
    assert world.judge() == [] and world.manifest("early").candidate is None


def test_a_halt_cancels_what_was_scheduled(world: World) -> None:
    release = begin(world, EAGER)
    schedule(world, release, "early", world.now + 60_000)
    world.result("canary-1", release, "failed")
    assert world.judge() == [release]
    assert shown(world)["scheduled"] is None and world.state(release) == "halted"


def test_a_schedule_that_is_due_waits_for_the_gate(world: World) -> None:
    release = begin(world, EAGER)
    schedule(world, release, "early", world.now + 60_000)
    world.now += 60_000
    assert world.judge() == [] and shown(world)["scheduled"] is not None
    commit(world, release, "canary-1")
    assert world.judge() == [release] and at(world) == "early"


def test_a_schedule_that_can_never_come_to_pass_is_dropped_with_the_rule(world: World) -> None:
    release = world.publish(1)
    schedule(world, release, "canary", world.now + 60_000)
    newer = world.publish(2)
    world.promote(newer, "canary")
    world.now += 60_000
    assert world.judge() == [release] and world.judge() == []
    ((actor, reason, _),) = bodies(world, "release.unscheduled")
    assert actor == "rule:schedule" and reason.startswith("older_than_active: ")


def test_what_is_scheduled_comes_before_what_the_policy_would_do(world: World) -> None:
    release = begin(world, AUTOMATIC)
    commit(world, release, "canary-1")
    schedule(world, release, "early", world.now + 60_000)
    assert world.judge() == [] and at(world) == "canary"
    world.now += 60_000
    assert world.judge() == [release] and at(world) == "early"


def test_a_second_schedule_replaces_the_first_and_a_promotion_by_hand_both(world: World) -> None:
    release = world.publish(1)
    schedule(world, release, "canary", world.now + 60_000, rolloutPercentage=10)
    schedule(world, release, "canary", world.now + 90_000, rolloutPercentage=20)
    world.now += 60_000
    assert world.judge() == []
    world.promote(release, "canary", 5)
    assert shown(world)["scheduled"] is None
    world.now += 60_000
    assert world.judge() == []


@pytest.mark.parametrize(
    ("body", "status", "rule"),
    [
        pytest.param({"not_before": "2999-01-01T00:00:00Z"}, 422, "not_before", id="centuries ahead"),
        pytest.param({"not_before": "2026-01-01T00:00:00"}, 400, None, id="a time without a zone"),
        pytest.param({"not_before": "tomorrow"}, 400, None, id="no time at all"),
    ],
)
def test_a_time_that_cannot_be_meant_is_refused(
    world: World, body: dict[str, str], status: int, rule: str | None
) -> None:
    release = world.publish(1)
    answer = world.client.post(f"/releases/{release}/promote", json={"targetSegment": "canary", **body})
    assert (answer.status_code, answer.json().get("rule")) == (status, rule)
    assert shown(world)["scheduled"] is None


def test_a_time_that_has_passed_means_now(world: World) -> None:
    release = world.publish(1)
    assert schedule(world, release, "canary", world.now).json()["state"] == "rolling"


def test_what_no_time_would_mend_is_not_scheduled(world: World) -> None:
    release = world.publish(1)
    assert schedule(world, release, "general", world.now + 60_000).json()["rule"] == "segment_order"


def test_the_last_segment_is_not_done_before_every_device_that_is_online_has_ended(world: World) -> None:
    """Whichever of them was waited for when it was last looked at."""
    release = begin(world, AUTOMATIC)
    for segment in ("canary", "early"):
        commit(world, release, f"{segment}-1")
        world.judge()
    for number in (2, 3, 4):
        world.device(f"general-{number}", "general")
        world.heartbeat(f"general-{number}", segment="general")
    commit(world, release, "general-1")
    for number in (3, 4, 2):
        assert world.judge() == []
        commit(world, release, f"general-{number}")
    assert world.judge() == [release] and world.state(release) == "complete"
