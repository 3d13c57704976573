"""Devices that are changed in mid-rollout: several changes at once, one document for the device, every count right."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.hub.world import World


@pytest.fixture
def rolling(world: World) -> str:
    """Release 1 offered to canary: canary-1 has taken it, canary-2 is taking it, and canary-3 has not begun."""
    release = world.publish(1)
    for number in (1, 2, 3):
        world.device(f"canary-{number}")
    world.device("early-1", "early")
    world.promote(release, "canary")
    world.result("canary-1", release, "committed")
    world.result("canary-2", release, "downloading")
    return release


def counts(world: World, release: str) -> list[tuple[int, int, int, int]]:
    """Expected, began, committed and in progress of each segment."""
    segments = world.client.get(f"/releases/{release}/progress").json()["segments"]
    return [(row["expected"], row["began"], row["committed"], row["in_progress"]) for row in segments]


def tables(world: World, *names: str) -> dict[str, list[tuple[Any, ...]]]:
    with world.store.read() as tx:
        return {name: tx.tuples(f"SELECT * FROM {name}") for name in names}


def etag(world: World, device: str) -> str:
    found: str = world.client.get(f"/devices/{device}").headers["etag"]
    return found


def test_several_changes_are_one_document_for_the_device_and_one_event(world: World, rolling: str) -> None:
    before = world.desired("canary-3").issued_at
    events = len(world.events())
    per_rollout = tables(world, "attempts", "rollout_counts", "phase_times", "segments", "stages")
    with world.store.read() as tx:
        manifests = tx.tuples("SELECT * FROM retained WHERE topic LIKE '%/releases/%'")
    change = {"segment": "early", "version_lock": rolling, "maintenance": True, "tags": {"aisle": "4"}}
    changed = world.client.patch(
        "/devices/canary-3", json=change, headers={"If-Match": etag(world, "canary-3")}
    )
    assert changed.status_code == 200 and changed.headers["etag"] == etag(world, "canary-3")
    desired = world.desired("canary-3")
    assert (desired.segment, desired.maintenance, desired.tags) == ("early", True, {"aisle": "4"})
    assert desired.version_lock is not None and desired.issued_at > before
    assert world.events()[events:] == ["device.changed"]
    assert tables(world, *per_rollout) == per_rollout, "nothing that is kept for each rollout was touched"
    with world.store.read() as tx:
        assert tx.tuples("SELECT * FROM retained WHERE topic LIKE '%/releases/%'") == manifests


def test_a_change_on_an_old_reading_changes_none_of_its_fields(world: World, rolling: str) -> None:
    old = etag(world, "canary-3")
    world.client.patch("/devices/canary-3", json={"owner": "ada"})
    before = world.client.get("/devices/canary-3").json(), world.desired("canary-3"), counts(world, rolling)
    change = {"segment": "early", "maintenance": True}
    refused = world.client.patch("/devices/canary-3", json=change, headers={"If-Match": old})
    assert refused.status_code == 412 and refused.json()["rule"] == "if_match"
    assert (
        world.client.get("/devices/canary-3").json(),
        world.desired("canary-3"),
        counts(world, rolling),
    ) == before


def test_of_many_changes_on_one_reading_one_wins(world: World, rolling: str) -> None:
    read = etag(world, "canary-3")

    def change(number: int) -> int:
        body = {"owner": f"ada-{number}", "segment": "early"}
        return int(world.client.patch("/devices/canary-3", json=body, headers={"If-Match": read}).status_code)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(change, range(4))) == [200, 412, 412, 412]
    assert counts(world, rolling)[:2] == [(2, 2, 1, 1), (0, 0, 0, 0)]


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        pytest.param("canary-1", [(2, 2, 1, 1), (0, 0, 0, 0)], id="one that has taken it stays counted"),
        pytest.param("canary-2", [(2, 2, 1, 1), (0, 0, 0, 0)], id="one that is taking it stays in progress"),
        pytest.param(
            "canary-3", [(2, 2, 1, 1), (0, 0, 0, 0)], id="one that has not begun is no longer expected"
        ),
    ],
)
@pytest.mark.parametrize(
    "how", ["moves to another segment", "moves to another role", "is deleted", "is revoked"]
)
def test_r5_a_device_that_leaves_the_segment_is_counted_where_it_began(
    world: World, rolling: str, device: str, expected: list[tuple[int, int, int, int]], how: str
) -> None:
    assert counts(world, rolling)[0] == (3, 2, 1, 1)
    if how == "is deleted":
        world.client.delete(f"/devices/{device}")
    elif how == "is revoked":
        world.client.post(f"/devices/{device}/revoke")
    else:
        change = (
            {"segment": "early"}
            if how == "moves to another segment"
            else {"role": "till", "segment": "early"}
        )
        assert world.client.patch(f"/devices/{device}", json=change).status_code == 200
    assert counts(world, rolling)[:2] == expected


def test_r5_a_device_that_goes_and_comes_back_is_counted_once(world: World, rolling: str) -> None:
    for segment in ("early", "general", "canary"):
        world.client.patch("/devices/canary-2", json={"segment": segment})
    world.result("canary-2", rolling, "committed")
    assert counts(world, rolling)[0] == (3, 2, 2, 0)


def test_r5_a_device_that_tries_again_elsewhere_is_counted_there_and_no_longer_here(
    world: World, rolling: str
) -> None:
    world.promote(rolling, "early")
    world.client.patch("/devices/canary-2", json={"segment": "early"})
    world.result("canary-2", rolling, "downloading", attempt=2, segment="early")
    assert counts(world, rolling)[:2] == [(2, 1, 1, 0), (2, 1, 0, 1)]


def test_a_locked_device_changes_its_role_with_its_lock_or_not_at_all(world: World, rolling: str) -> None:
    world.client.patch("/devices/canary-3", json={"version_lock": rolling})
    refused = world.client.patch("/devices/canary-3", json={"role": "till"})
    assert refused.status_code == 409 and refused.json()["rule"] == "version_lock"
    assert world.client.get("/devices/canary-3").json()["role"] == "kiosk"
    both = world.client.patch("/devices/canary-3", json={"role": "till", "version_lock": None})
    assert both.status_code == 200 and both.json()["role"] == "till"


def test_a_moved_device_is_told_where_to_look_and_decides_by_that(world: World, rolling: str) -> None:
    world.heartbeat("canary-3")
    path = f"/releases/{rolling}/eligibility/canary-3"
    assert world.client.get(path).json()["reason"] == "eligible"
    world.client.patch("/devices/canary-3", json={"segment": "early", "maintenance": True})
    assert world.client.get(path).json()["reason"] == "segment_not_reached"
    world.client.patch("/devices/canary-3", json={"segment": "canary"})
    assert world.client.get(path).json()["reason"] == "maintenance"
