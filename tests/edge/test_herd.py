"""What a whole fleet does at one moment it must not do at one moment for ever after (H1)."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest

from edge.config import Settings
from edge.updating import schedule
from tests.edge.world import Box

FLEET = [f"shop-{number}" for number in range(10_000)]
TENTHS = range(10)


def spread(shares: list[float]) -> Counter[int]:
    """How many of `shares` (0 to 1) fall into each tenth."""
    return Counter(min(9, int(share * 10)) for share in shares)


@pytest.mark.parametrize(
    ("failures", "longest"),
    [
        pytest.param(0, 1, id="the-broker-was-restarted"),
        pytest.param(3, 8, id="it-was-away-for-a-while"),
        pytest.param(20, 300, id="it-was-away-for-hours"),
        pytest.param(10**6, 300, id="it-was-away-for-years"),
    ],
)
def test_a_fleet_that_lost_its_broker_comes_back_spread_over_the_whole_wait(
    failures: int, longest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "random", random.Random(5))
    waits = [schedule.reconnect(Settings(), failures) for _ in FLEET]
    assert max(waits) <= longest
    tenths = spread([wait / longest for wait in waits])
    assert all(800 < tenths[tenth] < 1200 for tenth in TENTHS), tenths


@pytest.mark.parametrize(
    "now", [pytest.param(0.0, id="all-booted-at-once"), pytest.param(12_345.6, id="later")]
)
def test_a_fleet_that_reported_at_one_moment_goes_on_spread_over_the_interval(now: float) -> None:
    following = [schedule.next_heartbeat(device_id, now, 300) for device_id in FLEET]
    assert all(now < at <= now + 300 for at in following)
    tenths = spread([(at - now) / 300 for at in following])
    assert all(800 < tenths[tenth] < 1200 for tenth in TENTHS), tenths


def test_regular_heartbeats_of_a_device_are_one_interval_apart() -> None:
    times = [schedule.next_heartbeat("shop-1", 1_000, 60)]
    for _ in range(100):
        times.append(schedule.next_heartbeat("shop-1", times[-1] + 0.01, 60))
    assert {round(later - earlier, 3) for earlier, later in pairwise(times)} == {60}


def test_a_heartbeat_for_a_reason_of_its_own_does_not_move_the_regular_ones(box: Box) -> None:
    agent = box.agent
    due = agent.next_heartbeat
    sent = len(box.link.of("status"))
    agent.on_disconnected()
    agent.on_connected()
    assert len(box.link.of("status")) == sent + 1
    assert due is not None and agent.next_heartbeat is not None
    intervals = (agent.next_heartbeat - due) / agent.update_interval
    assert intervals == pytest.approx(round(intervals), abs=1e-6)
