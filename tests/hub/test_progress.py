"""How far a rollout is and how fast: times of each phase, a forecast, what the gate says, and failures afterwards."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from hub import phases
from hub.broker.outcomes import aftermath
from hub.deployment import counts
from hub.deployment.records import get_release
from hub.times import rfc3339
from tests.hub.world import EAGER, SPOOL, World
from topics.messages import Drift, DriftItem, Durable, Recovery

LATER = 1_000
"""Report numbers above those that the world gives out by itself."""
COMMON: dict[str, Any] = {"boot": (1, "0" * 8), "at": 0, "spool": SPOOL}
DIFFERENCE = [DriftItem(path="/etc/app.conf", what="hash")]


def rolling(world: World, devices: int = 3, **policy: Any) -> str:
    """Publish release 1, with some devices in canary, and offer it to them."""
    release = world.publish(1, policy={**EAGER, **policy})
    token = world.new_token("canary", uses=devices)
    for number in range(devices):
        assert world.register(f"canary-{number}", token).status_code == 200
    assert world.promote(release, "canary").status_code == 200
    return release


def progress(world: World, release: str) -> dict[str, Any]:
    found: dict[str, Any] = world.client.get(f"/releases/{release}/progress").json()
    return found


def canary(world: World, release: str) -> dict[str, Any]:
    found: dict[str, Any] = progress(world, release)["segments"][0]
    return found


def drift(world: World, device: str, release: str, n: int, **changes: Any) -> None:
    world.uplink(
        device, Drift(**{**COMMON, "n": LATER + n, "release": release, "items": DIFFERENCE, **changes})
    )


def safe_mode(world: World, device: str, release: str, n: int, *, entry: str = "s-1") -> None:
    fields = {**COMMON, "n": LATER + n, "state": "entered", "entry": entry, "release": release}
    world.uplink(device, Recovery(**fields))


# Times


@pytest.mark.parametrize("ms", [0, 1, 2, 999, 1_000, 60_000, 3_600_000, 86_400_000 * 90])
def test_a_time_is_told_within_five_percent(ms: int) -> None:
    assert abs(phases.middle_of(phases.step_of(ms)) - ms) <= max(1, 0.05 * ms)


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        pytest.param([1_000], (1_000, 1_000, 1_000), id="one device"),
        pytest.param(
            [1_000] * 50 + [5_000] * 50, (1_000, 5_000, 5_000), id="the 50th of a hundred is the half"
        ),
        pytest.param([1_000] * 49 + [5_000] * 51, (5_000, 5_000, 5_000), id="the 49th is not"),
        pytest.param([1_000] * 99 + [90_000], (1_000, 1_000, 1_000), id="one of a hundred is past the 99th"),
        pytest.param([1_000] * 98 + [90_000] * 2, (1_000, 1_000, 90_000), id="two are not"),
    ],
)
def test_percentiles_are_those_of_the_nearest_rank(
    counted: list[int], expected: tuple[int, int, int]
) -> None:
    steps: dict[int, int] = {}
    for ms in counted:
        steps[phases.step_of(ms)] = steps.get(phases.step_of(ms), 0) + 1
    found = phases.percentiles(steps)
    assert found["devices"] == len(counted)
    for name, ms in zip(("p50", "p90", "p99"), expected, strict=True):
        assert abs(found[name] - ms) <= 0.05 * ms, name


def test_times_of_each_phase_are_counted_once_however_often_a_success_is_reported(world: World) -> None:
    release = rolling(world)
    world.now += 10_000
    world.result("canary-0", release, "downloading")
    world.now += 60_000
    spent = {
        "downloading": 40_000,
        "verified": 500,
        "staged": 1_500,
        "activating": 3_000,
        "probation": 15_000,
    }
    for _ in range(3):
        world.result("canary-0", release, "committed", n=LATER, phases={**spent, "made up": 5})
    found = canary(world, release)["times_ms"]
    expected = {"waiting": 10_000, **spent, "total": 60_000}
    assert list(found) == list(expected)
    for phase, ms in expected.items():
        assert found[phase]["devices"] == 1
        assert abs(found[phase]["p99"] - ms) <= 0.05 * ms, phase


def test_only_successes_have_times(world: World) -> None:
    release = rolling(world)
    world.result("canary-0", release, "failed", phases={"downloading": 5})
    assert canary(world, release)["times_ms"] == {}


def test_a_later_success_of_the_same_device_counts_again(world: World) -> None:
    release = rolling(world)
    world.result("canary-0", release, "committed", attempt=1)
    world.result("canary-0", release, "committed", attempt=2)
    assert canary(world, release)["times_ms"]["total"]["devices"] == 2
    assert canary(world, release)["committed"] == 1


# Forecast and gate


def test_the_forecast_is_the_pace_so_far(world: World) -> None:
    release = rolling(world, devices=4)
    assert canary(world, release)["forecast_at"] is None, "nobody has ended"
    world.now += 30_000
    world.result("canary-0", release, "committed")
    assert canary(world, release)["forecast_at"] == rfc3339(world.now + 90_000)
    world.client.post(f"/releases/{release}/pause")
    assert canary(world, release)["forecast_at"] is None, "a paused rollout has no end in sight"


def test_the_forecast_ends_with_the_last_device(world: World) -> None:
    release = rolling(world, devices=1)
    world.now += 1
    world.result("canary-0", release, "committed")
    assert canary(world, release)["forecast_at"] is None


def test_progress_says_what_keeps_the_release_from_the_next_segment(world: World) -> None:
    release = rolling(world, segments={"canary": {"least_wait_seconds": 60}})
    shown = progress(world, release)["gate"]
    assert (shown["segment"], shown["passed"], shown["refused_by"]) == ("canary", False, "gate_wait")
    world.client.post(f"/releases/{release}/pause")
    world.now += 60_000
    assert progress(world, release)["gate"]["refused_by"] == "gate_wait", "a pause is no waiting"
    world.client.post(f"/releases/{release}/resume")
    world.now += 60_000
    assert progress(world, release)["gate"]["refused_by"] == "gate_reports"
    world.result("canary-0", release, "committed")
    assert progress(world, release)["gate"] == {
        "segment": "canary", "passed": True, "refused_by": None, "detail": "",
    }  # fmt: skip


def test_a_release_that_is_offered_to_nobody_has_no_gate(world: World) -> None:
    assert progress(world, world.publish(1))["gate"] is None


def test_devices_that_refuse_are_counted_by_their_reason(world: World) -> None:
    release = rolling(world)
    world.result("canary-0", release, "refused", check="bundle_hash")
    world.result("canary-1", release, "refused", check="bundle_hash")
    world.result("canary-2", release, "refused", reason="no idea")
    assert canary(world, release)["refused"] == {"bundle_hash": 2, "no idea": 1}
    assert canary(world, release)["began"] == 0


# After the update


@pytest.mark.parametrize(
    ("message", "what"),
    [
        pytest.param(Drift(**COMMON, n=1, items=DIFFERENCE), "drift", id="a difference"),
        pytest.param(Drift(**COMMON, n=1, more=3), "drift", id="more differences than fit"),
        pytest.param(
            Drift(**COMMON, n=1, items=DIFFERENCE, repaired=True), "", id="a difference that was repaired"
        ),
        pytest.param(Drift(**COMMON, n=1), "", id="no difference"),
        pytest.param(
            Recovery(**COMMON, n=1, state="entered", entry="s-1"), "safe_mode", id="safe mode by itself"
        ),
        pytest.param(
            Recovery(**COMMON, n=1, state="entered", entry="ordered-7"), None, id="safe mode by order"
        ),
        pytest.param(Recovery(**COMMON, n=1, state="left", entry="s-1"), None, id="out of safe mode"),
        pytest.param(Recovery(**COMMON, n=1, state="diagnostics", entry="s-1"), None, id="diagnostics"),
    ],
)
def test_what_a_report_says_of_the_release_that_runs(message: Durable, what: str | None) -> None:
    assert aftermath(message) == what


@pytest.mark.parametrize("outcome", ["drifted", "safe_mode"])
def test_what_goes_wrong_after_a_success_halts_the_rollout(world: World, outcome: str) -> None:
    release = rolling(world)
    world.result("canary-0", release, "committed")
    assert world.judge() == []
    (drift if outcome == "drifted" else safe_mode)(world, "canary-0", release, 1)
    here = canary(world, release)
    assert (here["began"], here["committed"], here[outcome]) == (1, 0, 1)
    assert world.judge() == [release] and world.state(release) == "halted"
    assert world.promote(release, "early").status_code == 409


def test_a_drift_that_is_gone_is_taken_back_as_a_late_success_is(world: World) -> None:
    release = rolling(world)
    world.result("canary-0", release, "committed")
    drift(world, "canary-0", release, 1)
    drift(world, "canary-0", release, 2, repaired=True)
    here = canary(world, release)
    assert (here["committed"], here["drifted"]) == (1, 0) and world.judge() == []


def test_safe_mode_is_not_taken_back(world: World) -> None:
    release = rolling(world)
    world.result("canary-0", release, "committed")
    safe_mode(world, "canary-0", release, 1)
    drift(world, "canary-0", release, 2, items=[])
    assert canary(world, release)["safe_mode"] == 1


def test_safe_mode_that_is_told_late_counts_although_a_clean_check_came_before(world: World) -> None:
    release = rolling(world)
    world.result("canary-0", release, "committed")
    drift(world, "canary-0", release, 2, items=[])
    safe_mode(world, "canary-0", release, 1)
    assert canary(world, release)["safe_mode"] == 1
    drift(world, "canary-0", release, 1, items=DIFFERENCE)
    assert canary(world, release)["safe_mode"] == 1


def test_safe_mode_of_an_earlier_attempt_says_nothing_of_the_one_that_succeeded(world: World) -> None:
    release = rolling(world)
    world.result("canary-0", release, "committed", attempt=2, n=LATER + 2)
    safe_mode(world, "canary-0", release, 1)
    assert (canary(world, release)["committed"], canary(world, release)["safe_mode"]) == (1, 0)


def test_r12_reports_that_come_twice_or_late_count_once_and_change_nothing_back(world: World) -> None:
    release = rolling(world)
    world.result("canary-0", release, "committed")
    for n in (1, 2, 1, 2):
        drift(world, "canary-0", release, n)
    assert canary(world, release)["drifted"] == 1
    drift(world, "canary-0", release, 3, items=[])
    drift(world, "canary-0", release, 2)
    assert (canary(world, release)["committed"], canary(world, release)["drifted"]) == (1, 0)


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(None, id="not begun"),
        pytest.param("downloading", id="begun"),
        pytest.param("failed", id="over"),
    ],
)
def test_without_a_success_there_is_nothing_to_go_wrong_after_it(world: World, state: str | None) -> None:
    release = rolling(world)
    if state:
        world.result("canary-0", release, state)
    before = canary(world, release)
    drift(world, "canary-0", release, 1)
    assert canary(world, release) == before


def test_drift_under_another_release_is_none_of_this_one(world: World) -> None:
    release = rolling(world)
    world.result("canary-0", release, "committed")
    drift(world, "canary-0", "kiosk-9-bbbbbbbbbbbb", 1)
    world.uplink("canary-0", Drift(**COMMON, n=LATER + 2, items=DIFFERENCE))
    assert canary(world, release)["committed"] == 1


def test_drift_that_was_looked_at_does_not_halt_again_and_a_new_one_does(world: World) -> None:
    release = rolling(world)
    for device in ("canary-0", "canary-1"):
        world.result(device, release, "committed")
    drift(world, "canary-0", release, 1)
    assert world.judge() == [release]
    world.now += 1
    world.client.post(f"/releases/{release}/resume")
    assert world.judge() == []
    drift(world, "canary-1", release, 1)
    assert world.judge() == [release]


def test_a_new_attempt_starts_without_what_went_wrong_after_the_last(world: World) -> None:
    release = rolling(world)
    world.result("canary-0", release, "committed")
    drift(world, "canary-0", release, 1)
    world.result("canary-0", release, "committed", attempt=2, n=LATER + 2)
    assert (canary(world, release)["committed"], canary(world, release)["drifted"]) == (1, 0)


def test_r5_a_device_moved_or_deleted_after_its_success_can_still_drift_but_never_below_nothing(
    world: World,
) -> None:
    release = rolling(world)
    for device in ("canary-0", "canary-1"):
        world.result(device, release, "committed")
    world.client.patch("/devices/canary-0", json={"segment": "general"})
    drift(world, "canary-0", release, 1)
    world.client.delete("/devices/canary-1")
    here, _, general = progress(world, release)["segments"]
    assert (here["began"], here["committed"], here["drifted"], here["in_progress"]) == (2, 1, 1, 0)
    assert general["drifted"] == 0, "it is counted where it began"


# Bounds


def test_the_number_of_a_segments_devices_follows_every_change(world: World) -> None:
    release = rolling(world, devices=4)

    def expected() -> list[int]:
        world.promote(release, "canary")
        return [row["expected"] for row in progress(world, release)["segments"]]

    assert expected()[0] == 4
    world.client.patch("/devices/canary-0", json={"segment": "early"})
    world.client.patch("/devices/canary-1", json={"maintenance": True})
    assert expected()[0] == 3
    world.client.post("/devices/canary-1/revoke")
    world.client.patch("/devices/canary-1", json={"segment": "early"})
    assert expected()[0] == 2
    world.client.delete("/devices/canary-1")
    world.client.delete("/devices/canary-2")
    assert expected()[0] == 1
    with world.store.read() as tx:
        rows = tx.all("SELECT segment, devices FROM segment_sizes WHERE devices <> 0 ORDER BY segment")
        assert [(row["segment"], row["devices"]) for row in rows] == [("canary", 1), ("early", 1)]


def test_what_is_read_of_a_rollout_does_not_grow_with_the_fleet(world: World) -> None:
    """No table with a row per device is looked through: every step of each plan goes by an index."""
    release = rolling(world)
    world.result("canary-0", release, "downloading")
    plans: list[str] = []
    connection = sqlite3.connect(world.files.path("00").parents[2] / "hub.db")
    with world.store.read() as tx:
        row = get_release(tx, release)
    asked = {"release": row["id"], "silent_before": 0, "judged_from": 0}
    for sql in (counts.SILENT, counts.COUNTED):
        plans += [step[3] for step in connection.execute(f"EXPLAIN QUERY PLAN {sql}", asked)]
    connection.close()
    assert plans and not [step for step in plans if step.startswith("SCAN") and "waited" not in step], plans
    assert any("attempts_open" in step for step in plans), plans
