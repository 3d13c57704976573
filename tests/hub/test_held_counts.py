"""Rollouts stop counting on a device in quarantine, and count on it again afterwards; what it showed stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.world import World, world

NAMES = ("shop-1", "shop-2", "shop-3", "shop-4")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        made.trust_root()
        yield made


@pytest.fixture
def release(hub: World) -> str:
    for name in NAMES:
        hub.device(name)
        hub.heartbeat(name)
    made = hub.publish(1)
    assert hub.promote(made, "canary").status_code == 200
    return made


def hold(hub: World, device_id: str, rule: str = "operator") -> None:
    with hub.store.write() as tx:
        tx.execute(
            "UPDATE devices SET quarantine_rule = :rule WHERE device_id = :id",
            {"rule": rule, "id": device_id},
        )


def row(hub: World, release: str) -> dict[str, Any]:
    found: dict[str, Any] = hub.client.get(f"/releases/{release}/progress").json()["segments"][0]
    return {
        name: found[name] for name in ("expected", "awaited", "began", "in_progress", "committed", "lost")
    }


def counts(
    expected: int, awaited: int, began: int, in_progress: int, committed: int = 0, lost: int = 0
) -> Any:
    return {
        "expected": expected,
        "awaited": awaited,
        "began": began,
        "in_progress": in_progress,
        "committed": committed,
        "lost": lost,
    }


def test_a_device_that_has_not_begun_is_no_longer_expected(hub: World, release: str) -> None:
    assert row(hub, release) == counts(4, 4, 0, 0)
    hold(hub, "shop-1")
    assert row(hub, release) == counts(3, 3, 0, 0)
    hold(hub, "shop-1", "")
    assert row(hub, release) == counts(4, 4, 0, 0)


def test_a_device_that_is_under_way_is_neither_in_progress_nor_ever_lost(hub: World, release: str) -> None:
    for name in NAMES[:2]:
        hub.result(name, release, "downloading")
    hold(hub, "shop-1")
    assert row(hub, release) == counts(3, 3, 1, 1)
    hub.now += 300_000
    assert row(hub, release) == counts(3, 2, 1, 0, lost=1)
    hold(hub, "shop-1", "")
    assert row(hub, release) == counts(4, 2, 2, 0, lost=2)


def test_a_device_that_goes_on_while_it_is_held_is_counted_by_its_end(hub: World, release: str) -> None:
    hub.result("shop-1", release, "downloading")
    hold(hub, "shop-1")
    hub.result("shop-1", release, "committed")
    assert row(hub, release) == counts(3, 3, 1, 0, committed=1)
    hold(hub, "shop-1", "")
    assert row(hub, release) == counts(4, 3, 1, 0, committed=1)


def test_a_device_that_begins_while_it_is_held_is_counted_once_it_is_let_go(hub: World, release: str) -> None:
    hold(hub, "shop-1")
    hub.result("shop-1", release, "downloading")
    assert row(hub, release) == counts(3, 3, 0, 0)
    hold(hub, "shop-1", "")
    assert row(hub, release) == counts(4, 4, 1, 1)


def test_the_failures_of_a_held_device_still_halt_its_release(hub: World, release: str) -> None:
    hub.result("shop-1", release, "downloading")
    hub.result("shop-1", release, "rolled_back")
    hold(hub, "shop-1")
    hub.judge()
    assert hub.state(release) == "halted"


def test_a_rollout_completes_without_a_device_that_is_held(hub: World) -> None:
    release = hub.publish(1)
    for name in NAMES:
        hub.device(name, "general")
        hub.heartbeat(name)
    hub.promote(release, "canary")
    for segment in ("early", "general"):
        body = {"targetSegment": segment, "override": True, "reason": "nobody is there"}
        assert hub.client.post(f"/releases/{release}/promote", json=body).status_code == 200
    for name in NAMES[:3]:
        hub.result(name, release, "committed", segment="general")
        hub.heartbeat(name, running=(release, 1))
    hub.judge()
    assert hub.state(release) == "rolling", "one is online and has not ended"
    hold(hub, "shop-4")
    hub.judge()
    assert hub.state(release) == "complete"


def test_a_held_device_that_is_moved_is_expected_in_neither_segment(hub: World, release: str) -> None:
    hold(hub, "shop-1")
    answer = hub.client.patch("/devices/shop-1", json={"segment": "early"})
    assert answer.status_code == 200
    assert row(hub, release)["expected"] == 3
    hub.client.patch("/devices/shop-1", json={"segment": "canary"})
    hold(hub, "shop-1", "")
    assert row(hub, release)["expected"] == 4


def test_a_held_device_that_is_deleted_leaves_no_count_behind(hub: World, release: str) -> None:
    hub.result("shop-1", release, "downloading")
    hold(hub, "shop-1")
    assert hub.client.delete("/devices/shop-1").status_code == 204
    with hub.store.read() as tx:
        assert [one["devices"] for one in tx.all("SELECT devices FROM held_counts")] == [0]
    assert row(hub, release) == counts(3, 3, 1, 1)


def test_a_share_takes_in_nobody_who_is_held(hub: World, release: str) -> None:
    other = hub.publish(2)
    assert hub.promote(other, "canary", 50).status_code == 200
    reached = hub.client.get(f"/releases/{other}/progress").json()["segments"][0]["expected"]
    for name in NAMES:
        hold(hub, name)
    assert hub.client.get(f"/releases/{other}/progress").json()["segments"][0]["expected"] == 0
    for name in NAMES:
        hold(hub, name, "")
    assert hub.client.get(f"/releases/{other}/progress").json()["segments"][0]["expected"] == reached
