"""What the Ops page reads of a whole fleet: the same devices, counted and packed."""

from __future__ import annotations

from typing import Any

import pytest

from hub.ops.conditions import CONDITIONS, condition
from tests.hub.world import World
from topics.messages import Drift, DriftItem

CALM = {
    "presence": "online", "health": "ok", "left_us": False, "drifted": False, "safe_mode": False, "quarantined": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, "online", id="heard and well"),
        pytest.param({"presence": "sleeping"}, "sleeping", id="asleep"),
        pytest.param({"presence": "unknown"}, "unknown", id="never heard"),
        pytest.param({"presence": "offline"}, "silent", id="heartbeats missed"),
        pytest.param({"presence": "offline", "left_us": True}, "offline", id="disconnected"),
        pytest.param({"health": "degraded"}, "degraded", id="degraded"),
        pytest.param({"health": "failing", "presence": "sleeping"}, "failing", id="failing before sleeping"),
        pytest.param(
            {"health": "failing", "presence": "offline"}, "silent", id="what is silent may have mended"
        ),
        pytest.param({"drifted": True, "presence": "offline"}, "drifted", id="drifted, though silent"),
        pytest.param({"drifted": True, "safe_mode": True}, "safe_mode", id="safe mode before drift"),
        pytest.param(
            {"safe_mode": True, "quarantined": True}, "quarantined", id="quarantine before safe mode"
        ),
    ],
)
def test_a_device_is_shown_in_the_worst_condition(changes: dict[str, Any], expected: str) -> None:
    assert condition(**{**CALM, **changes}) == expected


@pytest.fixture
def fleet(world: World) -> World:
    """Six devices: well, drifted, held back, sent to safe mode, never heard of, and revoked."""
    for number, segment in enumerate(("canary", "canary", "early", "early", "general", "general")):
        world.device(f"shop-{number}", segment)
    for number in (0, 1, 2, 3):
        world.heartbeat(f"shop-{number}", running=("kiosk-1-aaaaaaaaaaaa", 1) if number else None)
    drift = Drift(
        boot=(1, "0" * 8), at=world.now // 1000, spool="0a1b2c3d", n=1,
        items=[DriftItem(path="files/a", what="missing")],
    )  # fmt: skip
    world.uplink("shop-1", drift)
    world.watch.look()
    for path in ("/recovery/shop-2/quarantine", "/recovery/shop-3/enter", "/devices/shop-5/revoke"):
        assert world.client.post(path, json={"reason": "a look at it"}).status_code == 200
    return world


def overview(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.client.get("/fleet/overview").json()
    return found


def test_the_overview_counts_each_device_once_by_condition_and_findings_beside(fleet: World) -> None:
    found = overview(fleet)
    groups = {group["segment"]: group for group in found["groups"]}
    assert list(groups) == ["canary", "early", "general"]
    seen = {segment: {k: v for k, v in group["conditions"].items() if v} for segment, group in groups.items()}
    assert seen == {
        "canary": {"drifted": 1, "online": 1},
        "early": {"quarantined": 1, "safe_mode": 1},
        "general": {"unknown": 1},
    }
    assert groups["early"]["findings"]["quarantined"] == groups["early"]["findings"]["safe_mode"] == 1
    assert groups["canary"]["presence"]["online"] == 2
    assert groups["canary"]["running"] == {"none": 1, "kiosk-1-aaaaaaaaaaaa": 1}
    assert found["caller"] == {"name": "admin", "role": "admin"}


def test_the_overview_names_what_stands_and_what_is_under_way(fleet: World) -> None:
    release = fleet.publish(1)
    fleet.promote(release, "canary", 50)
    found = overview(fleet)
    canary = found["groups"][0]
    assert (canary["stable"], canary["candidate"], canary["paused"]) == (None, release, False)
    (shown,) = found["releases"]
    assert (shown["id"], shown["state"], shown["basis_points"]) == (release, "rolling", 5_000)


def unpacked(answer: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """Devices of a page: id, condition, release."""
    return [
        (device, answer["letters"][letter], answer["releases"].get(running))
        for block in answer["blocks"]
        for device, letter, running in zip(
            block["ids"].split(), block["conditions"], block["running"], strict=True
        )
    ]


def test_the_grid_has_every_device_with_its_condition_and_release(fleet: World) -> None:
    answer = fleet.client.get("/fleet/grid").json()
    assert unpacked(answer) == [
        ("shop-0", "online", None),
        ("shop-1", "drifted", "kiosk-1-aaaaaaaaaaaa"),
        ("shop-2", "quarantined", "kiosk-1-aaaaaaaaaaaa"),
        ("shop-3", "safe_mode", "kiosk-1-aaaaaaaaaaaa"),
        ("shop-4", "unknown", None),
    ]
    assert [(block["role"], block["segment"]) for block in answer["blocks"]] == [
        ("kiosk", "canary"), ("kiosk", "early"), ("kiosk", "general"),
    ]  # fmt: skip
    assert answer["next_cursor"] is None


def test_pages_of_the_grid_have_every_device_once(fleet: World) -> None:
    devices, cursor = [], None
    for _ in range(6):
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        answer = fleet.client.get("/fleet/grid", params=query).json()
        devices += [each[0] for each in unpacked(answer)]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert devices == [f"shop-{number}" for number in range(5)]


def test_the_grid_is_filtered_by_role_and_segment(fleet: World) -> None:
    early = fleet.client.get("/fleet/grid", params={"role": "kiosk", "segment": "early"}).json()
    assert [each[0] for each in unpacked(early)] == ["shop-2", "shop-3"]
    other = fleet.client.get("/fleet/grid", params={"role": "gateway"}).json()
    assert other["blocks"] == []


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        pytest.param({"limit": 0}, "limit", id="no device a page"),
        pytest.param({"limit": 10_001}, "limit", id="too many a page"),
        pytest.param({"segment": "late"}, "segment", id="unknown segment"),
        pytest.param({"cursor": "shop-1"}, "cursor", id="made-up cursor"),
    ],
)
def test_a_grid_that_cannot_be_meant_is_refused(bare: World, query: dict[str, Any], rule: str) -> None:
    answer = bare.client.get("/fleet/grid", params=query)
    assert (answer.status_code, answer.json()["rule"]) == (422, rule)


def test_the_overview_and_the_grid_agree(fleet: World) -> None:
    fleet.now += 3_600_000  # everybody fell silent
    grid = [each[1] for each in unpacked(fleet.client.get("/fleet/grid").json())]
    counted = [group["conditions"] for group in overview(fleet)["groups"]]
    assert {name: grid.count(name) for name in CONDITIONS} == {
        name: sum(group[name] for group in counted) for name in CONDITIONS
    }
    assert grid.count("silent") == 1
