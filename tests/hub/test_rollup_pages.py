"""`GET /telemetry/devices/{id}/rollups`: what the tiers hold and what is still open, newest first, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hub.telemetry.retention import Keep
from hub.telemetry.thinning import Thinning
from hub.times import parse_rfc3339, rfc3339
from tests.hub.world import World
from tests.hub.world import world as open_world
from topics.messages import Probes

HOUR = 3_600_000
DAY = 24 * HOUR


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A hub with a device, for tests that change nothing."""
    with open_world(tmp_path_factory.mktemp("hub")) as made:
        made.trust_root()
        made.device("shop-1")
        yield made


def at_midnight(world: World) -> int:
    world.device("shop-1")
    world.now += DAY - world.now % DAY
    return world.now


def get(world: World, query: str = "", device: str = "shop-1") -> Any:
    return world.client.get(f"/telemetry/devices/{device}/rollups{query}")


def items(world: World, query: str = "") -> list[dict[str, Any]]:
    answer = get(world, query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def beat(world: World, at: int, **fields: Any) -> None:
    world.now = at
    world.heartbeat("shop-1", **fields)


def starts(world: World, query: str) -> list[tuple[int, int]]:
    """Start (ms after the midnight at which the test began) and heartbeats of each item."""
    return [(parse_rfc3339(item["start"]), item["heartbeats"]) for item in items(world, query)]


def test_a_heartbeat_is_seen_at_once_in_every_tier(world: World) -> None:
    midnight = at_midnight(world)
    probes = Probes(cpu_load=0.25, memory_used=0.5, disk_used=0.75, temperature=41.0)
    beat(world, midnight + 7 * 60_000, health="degraded", probes=probes)
    for tier, seconds, start in (("5m", 300, 300_000), ("1h", 3600, 0), ("1d", 86_400, 0)):
        assert items(world, f"?tier={tier}") == [
            {
                "start": rfc3339(midnight + start),
                "seconds": seconds,
                "open": True,
                "heartbeats": 1,
                "health": "degraded",
                "cpu_load": {"mean": 0.25, "max": 0.25},
                "memory_used": {"mean": 0.5, "max": 0.5},
                "disk_used": {"mean": 0.75, "max": 0.75},
                "temperature": {"mean": 41.0, "max": 41.0},
            }
        ]


def test_each_tier_sums_up_the_same_heartbeats(world: World) -> None:
    midnight = at_midnight(world)
    loads = [0.2, 0.4, 0.6, 0.8]
    times = [0, 60_000, 6 * 60_000, HOUR + 60_000]
    for load, after in zip(loads, times, strict=True):
        beat(world, midnight + after, probes=Probes(cpu_load=load), health="failing" if load == 0.4 else "ok")
    assert starts(world, "?tier=5m") == [(midnight + HOUR, 1), (midnight + 300_000, 1), (midnight, 2)]
    assert starts(world, "?tier=1h") == [(midnight + HOUR, 1), (midnight, 3)]
    (day,) = items(world, "?tier=1d")
    assert (day["heartbeats"], day["health"], day["cpu_load"]) == (4, "failing", {"mean": 0.5, "max": 0.8})
    assert [item["health"] for item in items(world, "?tier=1h")] == ["ok", "failing"]
    assert [item["cpu_load"]["mean"] for item in items(world, "?tier=1h")] == [0.8, 0.4]
    assert [item["open"] for item in items(world, "?tier=5m")] == [True, False, False]


def test_what_was_not_probed_is_null(world: World) -> None:
    beat(world, at_midnight(world))
    (item,) = items(world)
    assert [item[name] for name in ("cpu_load", "memory_used", "disk_used", "temperature")] == [None] * 4


def test_from_is_included_and_to_is_not(world: World) -> None:
    midnight = at_midnight(world)
    for hour in range(4):
        beat(world, midnight + hour * HOUR)
    query = f"?tier=1h&from={rfc3339(midnight + HOUR)}&to={rfc3339(midnight + 3 * HOUR)}"
    assert starts(world, query) == [(midnight + 2 * HOUR, 1), (midnight + HOUR, 1)]
    assert starts(world, f"?tier=1h&to={rfc3339(midnight)}") == []
    assert starts(world, f"?tier=1h&from={rfc3339(midnight + 3 * HOUR + 1)}") == []


@pytest.mark.parametrize(("tier", "step"), [("5m", 300_000), ("1h", HOUR), ("1d", DAY)])
def test_pages_hold_every_bucket_once_while_heartbeats_come(world: World, tier: str, step: int) -> None:
    midnight = at_midnight(world)
    for n in range(7):
        beat(world, midnight + n * step)
    found, cursor = [], ""
    while True:
        answer = get(world, f"?tier={tier}&limit=3{cursor}").json()
        found += [parse_rfc3339(item["start"]) for item in answer["items"]]
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"
        beat(world, world.now + step)
    assert found == [midnight + n * step for n in range(6, -1, -1)]


def test_days_are_read_from_hours_and_from_folded_days_alike(world: World) -> None:
    midnight = at_midnight(world)
    for day in range(30):
        beat(world, midnight + day * DAY + HOUR)
        beat(world, midnight + day * DAY + 2 * HOUR)
    before = starts(world, "?tier=1d&limit=500")
    assert before == [(midnight + day * DAY, 2) for day in range(29, -1, -1)]
    Thinning(world.store, Keep(hourly=15), lambda: world.now, lambda _seconds: False).run()
    assert starts(world, "?tier=1d&limit=500") == before
    assert len(starts(world, "?tier=1h&limit=500")) < 60


@pytest.mark.parametrize(
    ("query", "status", "rule"),
    [
        pytest.param("?tier=2h", 422, "tier", id="no such tier"),
        pytest.param("?limit=0", 422, "limit", id="a limit of nothing"),
        pytest.param("?limit=501", 422, "limit", id="a limit too high"),
        pytest.param("?cursor=abc", 422, "cursor", id="a cursor that is none"),
        pytest.param("?cursor=-1", 422, "cursor", id="a cursor below nothing"),
        pytest.param("?cursor=99999999999999999999", 422, "cursor", id="a cursor beyond 64 bits"),
        pytest.param("?from=yesterday", 422, "from", id="a time that is none"),
        pytest.param("?to=2026-11-25T09:30:00", 422, "to", id="a time without a zone"),
        pytest.param(
            "?from=2026-11-25T09:30:00Z&to=2026-11-25T09:29:00Z", 422, "to", id="from later than to"
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(still: World, query: str, status: int, rule: str) -> None:
    answer = get(still, query)
    assert (answer.status_code, answer.json()["rule"]) == (status, rule)


def test_a_device_that_is_not_there_has_no_rollups(still: World) -> None:
    assert get(still, device="shop-404").status_code == 404
