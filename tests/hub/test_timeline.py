"""`GET /devices/{id}/timeline`: everything that happened to a device, once each, newest first, page by page."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from hub.silence import Silence
from hub.telemetry.timeline import KINDS, cursor_of, place_of
from hub.times import parse_rfc3339, rfc3339
from tests.hub.world import World
from tests.hub.world import world as open_world
from tests.support.uplinks import SPOOL, presence, result, rows
from topics.messages import CommandResult, Drift, DriftItem, Recovery

MINUTE = 60_000
HOUR = 60 * MINUTE
BOOT = (1, "00000001")


def get(world: World, query: str = "", device_id: str = "shop-1") -> Any:
    return world.client.get(f"/devices/{device_id}/timeline{query}")


def items(world: World, query: str = "") -> list[dict[str, Any]]:
    answer = get(world, query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def told(world: World, query: str = "") -> list[tuple[str, str]]:
    """Kind and text of each entry."""
    return [(item["kind"], item["text"]) for item in items(world, query)]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A hub in which a device has lived its day, for tests that only read."""
    with open_world(tmp_path_factory.mktemp("hub")) as made:
        made.trust_root()
        a_life(made)
        yield made


def durable(n: int) -> dict[str, Any]:
    return {"boot": BOOT, "at": 1000, "spool": SPOOL, "n": n}


def a_life(world: World) -> str:
    """What happens to a device in a day; returns the release."""
    world.now += HOUR - world.now % HOUR
    world.device("shop-1")
    world.heartbeat("shop-1", boot=(1, "00000001"))
    world.now += MINUTE
    release = world.publish(1)
    world.promote(release, "canary", 50)
    world.now += MINUTE
    world.result("shop-1", release, "downloading", boot=BOOT)
    world.now += MINUTE
    world.result("shop-1", release, "failed", boot=BOOT, reason="validate/10-smoke said no")
    world.now += HOUR
    world.heartbeat("shop-1", boot=(1, "00000001"), health="failing")
    world.uplink("shop-1", Drift(**durable(101), items=[DriftItem(path="/etc/x", what="hash")], more=2))
    world.now += MINUTE
    world.uplink("shop-1", Recovery(**durable(102), state="entered", entry="e1", reason="three failures"))
    world.now += MINUTE
    world.uplink("shop-1", CommandResult(**durable(103), command="c1", ok=True))
    world.client.patch("/devices/shop-1", json={"maintenance": True})
    world.now += HOUR
    world.client.post(f"/releases/{release}/rollback", json={"reason": "smoke"})
    world.uplink("shop-1", presence("offline", 1, at=5))
    return release


def test_a_devices_life_is_told_in_one_list(lived: World) -> None:
    release = f"kiosk-1-{'a' * 12}"
    assert told(lived) == [
        ("presence", "offline: it said goodbye"),
        ("release", f"{release} rolled back: smoke"),
        ("command-result", "command c1 done"),
        ("audit", "device.changed by admin"),
        ("recovery", "safe mode entered: three failures"),
        ("drift", "3 differences"),
        ("status", "health failing, was ok"),
        ("update-result", f"failed {release} (attempt 1): validate/10-smoke said no"),
        ("update-result", f"downloading {release} (attempt 1)"),
        ("release", f"{release} promoted"),
        ("status", "health ok"),
        ("presence", "online"),
        ("audit", "device.registered by device:shop-1"),
    ]


def test_each_entry_says_when_and_has_the_whole_of_it(lived: World) -> None:
    by_kind = {item["kind"]: item for item in items(lived)}
    assert set(by_kind) == set(KINDS)
    assert len({item["id"] for item in items(lived)}) == 13
    assert by_kind["drift"]["detail"]["items"] == [{"path": "/etc/x", "what": "hash"}]
    assert by_kind["recovery"]["detail"]["reason"] == "three failures"
    assert by_kind["audit"]["detail"]["actor"] == "device:shop-1"
    assert by_kind["release"]["detail"]["release_id"] == f"kiosk-1-{'a' * 12}"
    assert by_kind["presence"]["detail"]["reason"] == "connected"
    assert by_kind["status"]["detail"] == {"health": "ok", "was": None, "heartbeats": 1, "open": True}
    times = [parse_rfc3339(item["at"]) for item in items(lived)]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_alone_is_the_same_list_without_the_others(lived: World, kind: str) -> None:
    everything = items(lived)
    assert items(lived, f"?kind={kind}") == [item for item in everything if item["kind"] == kind] != []


def test_several_kinds_are_named_with_commas(lived: World) -> None:
    assert {kind for kind, _ in told(lived, "?kind=drift,presence")} == {"drift", "presence"}


def test_from_is_included_and_to_is_not(lived: World) -> None:
    everything = items(lived)
    times = sorted({item["at"] for item in everything})
    for begin in times:
        for end in times:
            if begin <= end:
                expected = [item for item in everything if begin <= item["at"] < end]
                assert items(lived, f"?from={begin}&to={end}") == expected


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 13])
def test_pages_hold_every_entry_once_while_more_happens(world: World, limit: int) -> None:
    a_life(world)
    everything = [item["id"] for item in items(world)]
    found, query = [], f"?limit={limit}"
    while True:
        page = get(world, query).json()
        found += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query = f"?limit={limit}&cursor={page['next_cursor']}"
        world.now += HOUR
        world.heartbeat("shop-1", health="degraded", boot=(1, "00000001"))
        world.uplink("shop-1", presence("online", world.now // HOUR))
        world.client.patch("/devices/shop-1", json={"owner": str(world.now)})
    assert found == everything


def test_entries_of_one_moment_have_an_order_that_pages_keep(world: World) -> None:
    """Everything at the same millisecond, of every source, in random order."""
    world.now += HOUR - world.now % HOUR
    world.device("shop-1")
    release = world.publish(1)
    world.promote(release, "canary", 50)
    draw = random.Random(7)
    spools = ["0a1b2c3d", "0a1b2c3d4e", "ffffffff"]
    work = [("result", spool, n) for spool in spools for n in (1, 2, 10)] + [
        ("change", "", n) for n in range(5)
    ]
    draw.shuffle(work)
    for what, spool, n in work:
        if what == "result":
            world.uplink("shop-1", result(n, spool=spool))
        else:
            world.client.patch("/devices/shop-1", json={"owner": str(n)})
    world.heartbeat("shop-1", boot=(1, "00000001"))
    everything = [item["id"] for item in items(world)]
    assert len(everything) == len(set(everything)) == len(work) + 4
    for limit in range(1, 8):
        found, query = [], f"?limit={limit}"
        while query:
            page = get(world, query).json()
            found += [item["id"] for item in page["items"]]
            query = page["next_cursor"] and f"?limit={limit}&cursor={page['next_cursor']}"
        assert found == everything


def test_a_release_that_is_not_offered_to_the_devices_segment_is_none_of_its_business(world: World) -> None:
    world.device("shop-1", "general")
    release = world.publish(1)
    world.promote(release, "canary", 50)
    assert told(world, "?kind=release") == []


def test_releases_of_other_roles_and_of_before_its_time_are_left_out(world: World) -> None:
    release = world.publish(1)
    world.promote(release, "canary", 10)
    world.now += MINUTE
    world.device("shop-1")
    world.now += MINUTE
    world.promote(release, "canary", 20)
    with world.store.write() as tx:
        tx.execute(
            "INSERT INTO events (at, kind, actor, release_id, role, body) "
            "VALUES (:at, 'release.halted', 'rule', 'door-1', 'door', '{}')",
            {"at": world.now},
        )
    assert [item["detail"]["body"]["basis_points"] for item in items(world, "?kind=release")] == [2000]


def test_health_is_told_when_it_changes_and_not_hour_by_hour(world: World) -> None:
    world.device("shop-1")
    world.now += HOUR - world.now % HOUR
    begin = world.now
    for health in ("ok", "ok", "failing", "failing", "degraded", "ok", "ok"):
        world.heartbeat("shop-1", health=health, boot=(1, "00000001"))
        world.now += HOUR
    found = [(parse_rfc3339(item["at"]) - begin, item["text"]) for item in items(world, "?kind=status")]
    assert found == [
        (5 * HOUR, "health ok, was degraded"),
        (4 * HOUR, "health degraded, was failing"),
        (2 * HOUR, "health failing, was ok"),
        (0, "health ok"),
    ]
    later = rfc3339(begin + 3 * HOUR)
    assert len(items(world, f"?kind=status&from={later}")) == 2
    assert items(world, f"?kind=status&from={rfc3339(begin + 6 * HOUR)}") == []


def test_presence_is_told_once_and_not_as_audit_too(world: World) -> None:
    world.device("shop-1")
    world.heartbeat("shop-1", boot=(1, "00000001"))
    silence = Silence(world.store, lambda: world.now, lambda: 0)
    world.now += HOUR
    silence.look()
    assert rows(world.store, "SELECT kind FROM events WHERE kind = 'device.offline'") != []
    assert told(world, "?kind=presence,audit") == [
        ("presence", "offline: it missed its heartbeats"),
        ("presence", "online"),
        ("audit", "device.registered by device:shop-1"),
    ]


def test_a_device_that_wakes_by_its_timer_is_told_in_two_lines(world: World) -> None:
    world.device("shop-1")
    for session in range(1, 4):
        world.uplink("shop-1", presence("online", session))
        world.uplink("shop-1", presence("sleeping", session, next_wake=world.now // 1000 + 300))
        world.now += 5 * MINUTE
    wake = str(rfc3339(world.now))[:19] + "Z"
    last = str(rfc3339(world.now - 5 * MINUTE))[:19] + "Z"
    assert told(world, "?kind=presence") == [
        ("presence", f"sleeping until {wake} (3 times, last {last})"),
        ("presence", f"online (3 times, last {last})"),
    ]


def test_a_report_in_quarantine_keeps_its_place(world: World) -> None:
    world.device("shop-1")
    world.uplink("shop-1", result(1))
    with world.store.write() as tx:
        tx.execute("UPDATE reports SET body = x''")
    (item,) = items(world, "?kind=update-result")
    assert (item["text"], item["detail"]) == ("a report that cannot be read", {"spool": SPOOL, "n": 1})


def test_reports_that_came_together_are_not_lost_between_two_pages(world: World) -> None:
    """`GET /telemetry/devices/{id}`: the latest heartbeat, and reports page by page."""
    world.device("shop-1")
    world.heartbeat("shop-1", health="degraded")
    for n in range(1, 6):
        world.uplink("shop-1", result(n))
    found, query = [], "?limit=2"
    while query:
        page = world.client.get(f"/telemetry/devices/shop-1{query}").json()
        assert page["status"]["health"] == "degraded"
        found += [(item["kind"], item["n"], item["received_at"]) for item in page["reports"]]
        query = page["next_cursor"] and f"?limit=2&cursor={page['next_cursor']}"
    assert found == [("update-result", n, rfc3339(world.now)) for n in (5, 4, 3, 2, 1)]


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        pytest.param("?kind=weather", "kind", id="no such kind"),
        pytest.param("?kind=", "kind", id="no kind"),
        pytest.param("?limit=0", "limit", id="a limit of nothing"),
        pytest.param("?limit=501", "limit", id="a limit too high"),
        pytest.param("?from=now", "from", id="a time that is none"),
        pytest.param("?cursor=", "cursor", id="an empty cursor"),
        pytest.param("?cursor=%C3%A9", "cursor", id="a cursor that is not ASCII"),
        pytest.param("?cursor=MS4yLjM", "cursor", id="an id that its kind has not"),
        pytest.param("?cursor=MS45OS4", "cursor", id="a rank that there is not"),
        pytest.param("?cursor=" + "A" * 300, "cursor", id="a cursor without end"),
    ],
)
def test_what_cannot_be_meant_is_refused(lived: World, query: str, rule: str) -> None:
    answer = get(lived, query)
    assert (answer.status_code, answer.json()["rule"]) == (422, rule)


def test_cursors_of_random_bytes_are_refused_and_never_a_fault(lived: World) -> None:
    draw = random.Random(1)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for length in range(1, 60):
        text = "".join(draw.choices(letters, k=length))
        assert get(lived, f"?cursor={text}").status_code == 422


def test_a_cursor_is_the_place_of_the_last_entry(lived: World) -> None:
    page = get(lived, "?limit=3").json()
    place = place_of(page["next_cursor"])
    assert cursor_of(place) == page["next_cursor"]
    assert rfc3339(place.at) == page["items"][-1]["at"]


def test_a_device_that_is_not_there_has_no_timeline(lived: World) -> None:
    assert get(lived, device_id="shop-404").status_code == 404
