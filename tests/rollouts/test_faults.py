"""Faults that people met elsewhere, each where hub and device meet: the fault is in the name."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hub.caller import rule
from hub.errors import Conflict
from tests.hub.world import World
from tests.hub.world import world as open_world
from tests.rollouts.device import SimDevice
from tests.topics import kit
from topics.channels import DESIRED, MANIFEST
from topics.documents import Requires


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as made:
        made.trust_root()
        yield made


def device(world: World, name: str = "shop-1", hardware: str = "pi4") -> SimDevice:
    """Register a device of the canaries."""
    return SimDevice(world.device(name), "canary", hardware)


def hear(world: World, device: SimDevice) -> None:
    """Let a device read what is retained for it."""
    desired, manifest = device.topics()
    bodies = {
        desired: world.client.get(f"/devices/{device.id}/desired").content,
        manifest: world.client.get(f"/manifests/kiosk/{device.beliefs.memory.segment}").content,
    }
    assert {desired, manifest} == {
        DESIRED.topic(kit.FLEET, id=device.id),
        MANIFEST.topic(kit.FLEET, role="kiosk", segment="canary"),
    }
    for topic, body in bodies.items():
        assert device.hear(topic, body, world.now) == ""


def report(world: World, device: SimDevice, since: int = 0) -> None:
    """Deliver the device's reports, but the first `since` of them, and its heartbeat."""
    for result in device.spool[since:]:
        world.uplink(device.id, result)
    world.uplink(device.id, device.status(world.now))


def update(world: World, device: SimDevice, how: Any) -> None:
    """Let a device hear, begin what it decides, end it, and report."""
    hear(world, device)
    device.start(device.decide(world.now), world.now)
    device.end(how, world.now)
    report(world, device)


def canary(world: World, release: str) -> dict[str, Any]:
    found: dict[str, Any] = world.client.get(f"/releases/{release}/progress").json()["segments"][0]
    return found


def reason(world: World, release: str, device: SimDevice) -> str:
    """What the hub says that the device would answer."""
    found: str = world.client.get(f"/releases/{release}/eligibility/{device.id}").json()["reason"]
    return found


def test_r2_a_device_that_falls_back_after_its_success_was_told_is_a_failure_and_halts(world: World) -> None:
    release = world.publish(1)
    world.promote(release, "canary")
    one = device(world)
    update(world, one, "committed")
    assert canary(world, release)["committed"] == 1
    world.result(one.id, release, "rolled_back", n=len(one.spool) + 1, reason="probe: gone after the restart")
    assert (canary(world, release)["committed"], canary(world, release)["rolled_back"]) == (0, 1)
    assert world.judge() == [release] and world.state(release) == "halted"
    assert world.promote(release, "early").json()["rule"] == "state"


def test_r3_a_release_that_a_device_fell_back_from_is_tried_again_once_an_operator_asks(world: World) -> None:
    release = world.publish(1)
    world.promote(release, "canary")
    one = device(world)
    update(world, one, "rolled_back")
    world.judge()
    assert world.state(release) == "halted"
    world.now += 1000
    world.client.post(f"/releases/{release}/resume", json={"reason": "the cause is mended"})
    hear(world, one)
    assert one.decide(world.now).reason == "failed_here_before", "not by itself"
    retried = one.decide(world.now, retry=release)
    assert retried.eligible and retried.release is not None and retried.release.id == release
    told = len(one.spool)
    one.start(retried, world.now)
    one.end("committed", world.now, retry=release)
    report(world, one, told)
    shown = canary(world, release)
    assert (shown["began"], shown["committed"], shown["rolled_back"]) == (1, 1, 0), (
        "the newest attempt counts"
    )
    assert reason(world, release, one) == "already_installed"


def test_r4_devices_that_run_the_release_already_are_no_evidence_and_complete_nothing(world: World) -> None:
    release = world.publish(1)
    world.promote(release, "canary")
    one = device(world)
    world.heartbeat(one.id, running=(release, 1))
    assert reason(world, release, one) == "already_installed"
    assert world.judge() == [] and canary(world, release)["began"] == 0
    refused = world.promote(release, "early")
    assert refused.status_code == 409 and refused.json()["rule"] == "gate_reports"


def test_r6_many_that_halt_at_the_same_moment_halt_once_and_undo_nothing(world: World) -> None:
    release = world.publish(1)
    world.promote(release, "canary")
    for name in ("shop-1", "shop-2"):
        update(world, device(world, name), "rolled_back")

    def halt(number: int) -> str:
        try:
            return str(world.deployment.halt(release, rule("failure"), f"seen by {number}")["state"])
        except Conflict as conflict:
            return str(conflict.rule)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(halt, range(8))) == {"halted"}
    assert world.events().count("release.halted") == 1
    assert world.state(release) == "halted" and world.manifest("canary").manifest.paused


@pytest.mark.parametrize(
    ("written", "status"),
    [
        pytest.param('"50"', 400, id="text"),
        pytest.param("true", 400, id="yes"),
        pytest.param("[50]", 400, id="a list"),
        pytest.param("NaN", 400, id="no number"),
        pytest.param("1e400", 400, id="beyond any number"),
        pytest.param("0", 422, id="nobody"),
        pytest.param("-1", 422, id="less than nobody"),
        pytest.param("101", 422, id="more than all"),
        pytest.param("50.505", 422, id="between two shares"),
    ],
)
def test_r7_a_share_that_is_no_share_is_refused_and_offers_nothing(
    world: World, written: str, status: int
) -> None:
    release = world.publish(1)
    answer = world.client.post(
        f"/releases/{release}/promote",
        content=f'{{"targetSegment": "canary", "rolloutPercentage": {written}}}',
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert world.state(release) == "published" and world.manifest("canary").candidate is None


@pytest.mark.parametrize(
    ("hardware", "ends", "expected"),
    [
        pytest.param("pi3", None, "wrong_hardware", id="it does not fit"),
        pytest.param("pi4", "rolled_back", "failed_here_before", id="it failed here"),
        pytest.param("pi4", "failed_here", "failed_here_before", id="it was not what was signed"),
    ],
)
def test_r9_what_a_device_refuses_it_refuses_at_every_poll_and_says_nothing_more_of(
    world: World, hardware: str, ends: Any, expected: str
) -> None:
    release = world.publish(1, requires=Requires(hardware=["pi4"]))
    world.promote(release, "canary")
    one = device(world, hardware=hardware)
    if ends:
        update(world, one, ends)
    told = len(one.spool)
    for _ in range(5):
        world.now += 60_000
        hear(world, one)
        assert one.decide(world.now).reason == expected
    assert len(one.spool) == told
    report(world, one, told)
    assert reason(world, release, one) == expected


def test_d9_a_retained_message_that_comes_again_starts_nothing_again(world: World) -> None:
    release = world.publish(1)
    world.promote(release, "canary")
    one = device(world)
    update(world, one, "committed")
    for _ in range(3):
        one.restart(world.now)
        hear(world, one)
        assert one.decide(world.now).reason == "already_installed"
    assert [entry.state for entry in one.spool] == ["downloading", "committed"]


def test_h5_progress_shown_to_operators_never_goes_back_for_a_late_report(world: World) -> None:
    release = world.publish(1)
    world.promote(release, "canary")
    one = device(world)
    update(world, one, "committed")
    before = canary(world, release)
    for late in reversed(one.spool):
        world.uplink(one.id, late)
        assert canary(world, release) == before


def test_r8_hub_and_device_know_of_a_floor_from_the_manifest_that_raises_it(world: World) -> None:
    """The device's last heartbeat was sent before it heard of the manifest."""
    release = world.publish(1, floor=5)
    one = device(world)
    report(world, one)
    asked = {"targetSegment": "canary", "rolloutPercentage": 100}
    shown = world.client.post(f"/releases/{release}/promote?dry_run=true", json=asked).json()
    assert shown["would_move"] == [] and shown["by_reason"] == {"below_floor": 1}
    world.promote(release, "canary")
    hear(world, one)
    assert one.decide(world.now).reason == "below_floor" == reason(world, release, one)
