"""How many devices a share takes in: exact at any size, whatever comes, goes and moves while it is being counted."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hub.deployment import shares
from tests.hub.world import World
from topics.eligibility import takes_candidate

SHARE = 37
_INSERT = (
    "INSERT INTO devices (device_id, public_key, role, segment, update_interval, created_at, updated_at) "
    "VALUES (:id, x'00', 'kiosk', :segment, 60, 0, 0)"
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment of more than five devices is a large one."""
    monkeypatch.setattr(shares, "DIRECTLY", 5)
    monkeypatch.setattr(shares, "SLICE", 4)


def fill(world: World, count: int, segment: str = "canary") -> None:
    with world.store.write() as tx:
        for number in range(count):
            tx.execute(_INSERT, {"id": f"{segment}-{number:03d}", "segment": segment})


def rolling(world: World, devices: int, share: float = SHARE) -> str:
    release = world.publish(1)
    fill(world, devices)
    assert world.promote(release, "canary", share).status_code == 200
    return release


def shown(world: World, release: str) -> tuple[int, bool]:
    row: dict[str, Any] = world.client.get(f"/releases/{release}/progress").json()["segments"][0]
    return row["expected"], row["expected_exact"]


def truth(world: World, release: str, share: float = SHARE) -> int:
    with world.store.read() as tx:
        rows = tx.all(
            "SELECT device_id FROM devices WHERE role = 'kiosk' AND segment = 'canary' AND revoked_at IS NULL "
            "AND quarantine_rule = ''"
        )
    return sum(takes_candidate(release, row["device_id"], round(share * 100)) for row in rows)


def count_all(world: World) -> int:
    """Count until there is nothing more to do; return in how many turns."""
    turns = 0
    while shares.count(world.store):
        turns += 1
        assert turns < 100
    return turns


def change(world: World, chance: random.Random) -> None:
    """Something happens to a device."""
    with world.store.write() as tx:
        names = [row["device_id"] for row in tx.all("SELECT device_id FROM devices ORDER BY device_id")]
        one = {"id": chance.choice(names), "new": f"canary-{chance.randrange(10**6):06d}"}
        what = chance.choice(
            [
                "DELETE FROM devices WHERE device_id = :id",
                "UPDATE devices SET segment = 'early' WHERE device_id = :id",
                "UPDATE devices SET segment = 'canary' WHERE device_id = :id",
                "UPDATE devices SET role = 'gateway' WHERE device_id = :id",
                "UPDATE devices SET role = 'kiosk' WHERE device_id = :id",
                "UPDATE devices SET revoked_at = 1 WHERE device_id = :id",
                "UPDATE devices SET quarantine_rule = 'operator' WHERE device_id = :id",
                "UPDATE devices SET quarantine_rule = '' WHERE device_id = :id",
                "new",
                "new",
            ]
        )
        if what == "new":
            tx.execute(_INSERT, {"id": one["new"], "segment": "canary"})
        else:
            tx.execute(what, {"id": one["id"]})


def test_a_small_segment_is_counted_when_it_is_asked(world: World) -> None:
    release = rolling(world, devices=5)
    assert shown(world, release) == (truth(world, release), True)
    assert not shares.count(world.store)


def test_a_large_one_is_reckoned_until_the_leader_has_counted_it(world: World) -> None:
    release = rolling(world, devices=20)
    assert shown(world, release) == (round(20 * SHARE / 100), False)
    assert shares.count(world.store)
    assert shown(world, release)[1] is False, "one slice is not all"
    count_all(world)
    assert shown(world, release) == (truth(world, release), True)
    assert not shares.count(world.store), "and then nothing is written any more"


def test_a_share_that_is_raised_is_counted_anew(world: World) -> None:
    release = rolling(world, devices=20)
    count_all(world)
    world.promote(release, "canary", 60)
    assert shown(world, release) == (12, False)
    count_all(world)
    assert shown(world, release) == (truth(world, release, 60), True)
    world.promote(release, "canary", 100)
    assert shown(world, release) == (20, True)
    count_all(world)
    with world.store.read() as tx:
        assert tx.all("SELECT * FROM shares") == [], "nothing is kept of what nobody asks any more"


@pytest.mark.parametrize("seed", range(6))
def test_what_changes_while_it_is_counted_and_afterwards_is_in_the_count(world: World, seed: int) -> None:
    """R5"""
    release = rolling(world, devices=30)
    chance = random.Random(seed)
    while shares.count(world.store):
        for _ in range(chance.randrange(3)):
            change(world, chance)
    for _ in range(30):
        change(world, chance)
        expected, exact = shown(world, release)
        if exact:
            assert expected == truth(world, release)
        if chance.random() < 0.3:
            count_all(world)
            assert shown(world, release) == (truth(world, release), True)


def test_nothing_is_written_of_changes_in_a_segment_that_nobody_counts(world: World) -> None:
    rolling(world, devices=20, share=100)
    fill(world, 20, "early")
    with world.store.write() as tx:
        tx.execute("UPDATE devices SET segment = 'general' WHERE segment = 'early'")
    with world.store.read() as tx:
        assert tx.all("SELECT * FROM share_changes") == []
