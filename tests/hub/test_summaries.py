"""Summaries: counted by the database, by the same rule that shows one device."""

from __future__ import annotations

from typing import Any

import pytest

from hub.summaries import summaries
from tests.hub.world import EAGER, World
from tests.topics import kit
from topics.messages import Presence


def count(world: World) -> dict[str, Any]:
    with world.store.read() as tx:
        found = summaries(tx, kit.FLEET, now=world.now, observed_since=world.observed_since)
    return {topic.partition("/summary/")[2]: state for topic, state in found.items()}


def test_a_fleet_without_devices_has_its_zeros(world: World) -> None:
    found = count(world)
    assert found["fleet"] == {
        "fleet": kit.FLEET,
        "devices": 0,
        "presence": {"online": 0, "sleeping": 0, "offline": 0, "unknown": 0},
        "health": {"ok": 0, "degraded": 0, "failing": 0, "unknown": 0},
        "safe_mode": 0,
    }
    assert found["alerts"] == {"alerts": []}


def test_devices_are_counted_by_role_segment_and_release(world: World) -> None:
    for name, segment in (("a", "canary"), ("b", "early"), ("c", "early")):
        world.device(name, segment)
    world.heartbeat("a", running=("kiosk-1-aaaaaaaaaaaa", 1))
    world.heartbeat("b", running=("kiosk-1-aaaaaaaaaaaa", 1), health="failing")
    found = count(world)
    assert found["fleet"]["presence"] == {"online": 2, "sleeping": 0, "offline": 0, "unknown": 1}
    assert found["roles/kiosk"]["running"] == {"kiosk-1-aaaaaaaaaaaa": 2, "none": 1}
    assert found["roles/kiosk"]["segments"]["early"]["devices"] == 2
    assert found["roles/kiosk"]["segments"]["early"]["health"]["failing"] == 1
    assert found["alerts"]["alerts"][0]["kind"] == "failing"


def test_safe_mode_is_counted_whether_it_was_ordered_or_the_devices_own(world: World) -> None:
    for name in ("a", "b", "c"):
        world.device(name)
    world.heartbeat("a", safe_mode=True)
    world.heartbeat("b")
    world.client.post("/recovery/b/enter", json={"reason": "maintenance"})
    assert count(world)["fleet"]["safe_mode"] == 2
    world.heartbeat("a", safe_mode=False)
    assert count(world)["roles/kiosk"]["safe_mode"] == 1


def test_a_rollout_has_a_summary_while_it_is_under_way(world: World) -> None:
    release = world.publish(1, policy=EAGER)
    assert f"releases/{release}" not in count(world)
    world.promote(release, "canary", 50)
    world.result(world.device("a"), release, "failed")
    shown = count(world)[f"releases/{release}"]
    assert shown["share_percent"] == 50.0 and shown["segments"]["canary"]["failed"] == 1
    world.judge()
    assert count(world)["alerts"]["alerts"][0]["kind"] == "rollout_halted"
    world.client.post(f"/releases/{release}/rollback")
    assert f"releases/{release}" not in count(world)


@pytest.mark.parametrize("state", ["online", "sleeping", "offline", None])
@pytest.mark.parametrize("late_s", [0, 900, 901])
@pytest.mark.parametrize("wake_s", [-1000, 0, 1000])
def test_the_count_and_the_page_of_a_device_agree_on_its_presence(
    world: World, state: Any, late_s: int, wake_s: int
) -> None:
    world.device("a")
    if state is None:
        world.heartbeat("a")
        with world.store.write() as tx:
            tx.execute("DELETE FROM presence")
    else:
        presence = Presence(
            boot=(1, "0" * 8), session=1, state=state, next_wake=max(0, world.now // 1000 + wake_s)
        )
        world.uplink("a", presence)
    world.now += late_s * 1000
    (shown,) = world.client.get("/devices").json()["items"]
    counted = count(world)["fleet"]["presence"]
    assert counted[shown["presence"]] == 1, (shown["presence"], counted)
