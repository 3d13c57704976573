"""Releases in between: a device too old for a release is taken there in steps, and stands for it on the way."""

from __future__ import annotations

from typing import Any

import pytest

from hub.deployment.waypoints import Step, way
from hub.times import zones
from tests.hub.world import World
from tests.topics import kit
from topics import trust
from topics.documents import Release, Requires
from topics.eligibility import Decision, decide

REQUIREMENTS: list[tuple[int, dict[str, Any]]] = [
    (1, {}),
    (2, {}),
    (3, {"requires": Requires(from_sequence=2)}),
]
RELEASES = {number: f"kiosk-{number}-{'a' * 12}" for number in range(1, 6)}


def needs(
    sequence: int, from_sequence: int = 0, *, hardware: tuple[str, ...] = (), role: str = "kiosk"
) -> Release:
    return kit.release(
        sequence=sequence,
        id=f"{role}-{sequence}-{'a' * 12}",
        role=role,
        requires=Requires(from_sequence=from_sequence, hardware=list(hardware)),
    )


@pytest.mark.parametrize(
    ("target", "pool", "steps"),
    [
        pytest.param(needs(9), [needs(5)], [], id="nothing is required"),
        pytest.param(needs(9, 5), [needs(5)], [5], id="exactly the one that is required"),
        pytest.param(needs(9, 5), [needs(5), needs(7)], [7], id="of several the latest"),
        pytest.param(needs(9, 5), [needs(4), needs(9), needs(10)], [], id="none too early, none past it"),
        pytest.param(needs(9, 6), [needs(7, 3), needs(4)], [7, 4], id="a step that needs a step"),
        pytest.param(needs(9, 6), [needs(8, 5), needs(7)], [7], id="the shortest way"),
        pytest.param(needs(9, 6), [needs(7, 3)], [7], id="a way that ends: older devices cannot come"),
        pytest.param(needs(9, 5), [needs(7, hardware=("pi4",)), needs(6)], [6], id="for any hardware first"),
        pytest.param(
            needs(9, 5), [needs(7, hardware=("pi4",))], [7], id="for some hardware if there is no other"
        ),
        pytest.param(needs(9, 5), [needs(7, role="sensor")], [], id="another role's"),
        pytest.param(
            needs(99, 98), [needs(n, n - 1) for n in range(1, 99)], [*range(98, 90, -1)], id="eight at most"
        ),
    ],
)
def test_the_way_to_a_release(target: Release, pool: list[Release], steps: list[int]) -> None:
    assert [step.release.sequence for step in way(target, [Step(one, b"") for one in pool])] == steps


def complete(world: World, sequence: int, **changes: Any) -> str:
    """Let release `sequence` go through, on the word of one device in each segment that takes part in nothing else."""
    release = world.publish(sequence, **changes)
    for segment in ("canary", "early", "general"):
        assert world.promote(release, segment).status_code == 200
        world.result(f"{segment}-0", release, "committed", segment=segment)
    assert world.judge() == [release]
    return release


@pytest.fixture
def stepped(world: World) -> World:
    """Releases 1 and 2 went through. Release 3 needs 2, and canary-1 still runs 1."""
    for segment in ("canary", "early", "general"):
        world.device(f"{segment}-0", segment)
    complete(world, 1)
    complete(world, 2)
    world.device("canary-1")
    world.heartbeat("canary-1", running=(RELEASES[1], 1))
    world.publish(3, requires=Requires(from_sequence=2))
    return world


def next_step(world: World, device: str) -> Decision:
    """What the device does, with nothing but its own root, the retained manifest and its facts."""
    root = kit.signed_root()
    state = trust.pin_root(root, trust.sha256(root))
    return decide(state, world.manifest("canary"), None, world.facts(device), world.now, zones)


def canary(world: World, release: str) -> dict[str, Any]:
    found: dict[str, Any] = world.client.get(f"/releases/{release}/progress").json()["segments"][0]
    return found


def test_a_device_that_is_too_old_walks_the_two_steps(stepped: World) -> None:
    assert stepped.promote(RELEASES[3], "canary").status_code == 200
    assert [step.id for step in stepped.manifest("canary").waypoints] == [RELEASES[2]]
    walked = []
    for _ in range(2):
        shown = stepped.client.get(f"/releases/{RELEASES[3]}/eligibility/canary-1").json()
        decision = next_step(stepped, "canary-1")
        assert decision.release is not None
        assert (decision.reason, decision.release.id) == (shown["reason"], shown["target"])
        walked.append(decision.release.id)
        for state in ("downloading", "committed"):
            stepped.result("canary-1", decision.release.id, state)
        stepped.heartbeat("canary-1", running=(decision.release.id, decision.release.sequence))
    assert walked == [RELEASES[2], RELEASES[3]]
    assert next_step(stepped, "canary-1").reason == "already_installed"
    assert canary(stepped, RELEASES[3])["committed"] == 1


def test_without_a_release_in_between_the_old_device_says_what_it_needs(world: World) -> None:
    for segment in ("canary", "early", "general"):
        world.device(f"{segment}-0", segment)
    complete(world, 1)
    world.device("canary-1")
    world.heartbeat("canary-1", running=(RELEASES[1], 1))
    world.publish(3, requires=Requires(from_sequence=2))
    world.promote(RELEASES[3], "canary")
    assert next_step(world, "canary-1").reason == "needs_earlier_release"
    shown = world.client.get(f"/releases/{RELEASES[3]}/eligibility/canary-1").json()
    assert shown["reason"] == "needs_earlier_release" and "runs 1" in shown["detail"]


def test_a_dry_run_counts_who_would_come_by_way_of_another_release(stepped: World) -> None:
    body = {"targetSegment": "canary"}
    shown = stepped.client.post(f"/releases/{RELEASES[3]}/promote?dry_run=true", json=body).json()
    assert "canary-1" in shown["would_move"] and shown["by_waypoint"] == {RELEASES[2]: 1}
    stepped.promote(RELEASES[3], "canary")
    assert next_step(stepped, "canary-1").eligible


def test_on_the_way_a_device_is_in_progress_and_a_step_taken_well_is_no_success_yet(stepped: World) -> None:
    stepped.promote(RELEASES[3], "canary")
    assert (canary(stepped, RELEASES[3])["began"], canary(stepped, RELEASES[3])["committed"]) == (0, 0)
    stepped.result("canary-1", RELEASES[2], "downloading")
    assert canary(stepped, RELEASES[3])["in_progress"] == 1
    stepped.result("canary-1", RELEASES[2], "committed")
    here = canary(stepped, RELEASES[3])
    assert (here["in_progress"], here["committed"]) == (0, 0)
    assert stepped.promote(RELEASES[3], "early").json()["rule"] == "gate_reports"


def test_a_step_that_fails_counts_against_the_release_it_leads_to(stepped: World) -> None:
    stepped.promote(RELEASES[3], "canary")
    stepped.result("canary-1", RELEASES[2], "rolled_back")
    assert stepped.judge() == [RELEASES[3]]
    assert stepped.state(RELEASES[3]) == "halted" and canary(stepped, RELEASES[3])["rolled_back"] == 1
    stepped.now += 1
    stepped.client.post(f"/releases/{RELEASES[3]}/resume")
    assert stepped.judge() == [], "it was looked at"
    stepped.device("canary-2")
    stepped.result("canary-2", RELEASES[2], "failed")
    assert stepped.judge() == [RELEASES[3]]


def test_a_device_that_falls_silent_on_the_way_is_lost(stepped: World) -> None:
    stepped.promote(RELEASES[3], "canary")
    stepped.result("canary-1", RELEASES[2], "downloading")
    stepped.now += 120_001
    assert stepped.judge() == [RELEASES[3]]
    assert canary(stepped, RELEASES[3])["lost"] == 1


def test_what_was_reported_of_a_step_before_the_rollout_is_not_of_the_rollout(stepped: World) -> None:
    stepped.result("canary-1", RELEASES[2], "failed")
    stepped.promote(RELEASES[3], "canary")
    assert stepped.judge() == [] and canary(stepped, RELEASES[3])["failed"] == 0


def test_a_release_that_was_taken_back_is_no_step(stepped: World) -> None:
    stepped.promote(RELEASES[3], "canary")
    assert stepped.client.post(f"/releases/{RELEASES[2]}/rollback").status_code == 200
    assert stepped.manifest("canary").waypoints == ()


def test_a_step_signed_by_more_keys_is_hoisted_with_them_and_holds_a_root_back_until_then(
    stepped: World,
) -> None:
    stepped.promote(RELEASES[3], "canary")
    rotated = kit.signed_root(2, releases=("release-2",))
    assert stepped.client.post("/trust/roots", content=rotated).json()["rule"] == "release_keys"
    for sequence, changes in REQUIREMENTS:
        stepped.publish(sequence, signers=("release-1", "release-2"), **changes)
    assert stepped.client.post("/trust/roots", content=rotated).status_code == 201
    topic = "acme/v1/releases/kiosk/canary"
    data = stepped.client.get("/manifests/kiosk/canary").content
    state = trust.pin_root(rotated, trust.sha256(rotated))
    accepted = trust.accept_manifest(state, topic, data, kit.NO_CLOCK)[1]
    assert [step.id for step in accepted.waypoints] == [RELEASES[2]]


def test_a_step_that_the_newest_root_does_not_trust_is_left_out(stepped: World) -> None:
    signers = ("release-1", "release-2")
    stepped.publish(2, signers=signers)
    stepped.publish(1, signers=("release-1",))
    assert (
        stepped.client.post("/trust/roots", content=kit.signed_root(2, releases=("release-2",))).status_code
        == 201
    )
    stepped.publish(4, signers=("release-2",), requires=Requires(from_sequence=1))
    assert stepped.promote(RELEASES[4], "canary").status_code == 200
    envelope = stepped.client.get("/manifests/kiosk/canary").content
    assert RELEASES[2].encode() in envelope and RELEASES[1].encode() not in envelope
