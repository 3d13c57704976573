"""When a device was reachable: what becomes an entry, what extends one, and which events tell of it."""

from __future__ import annotations

from typing import Any

import pytest

from hub import silence
from hub.presence import SILENT_AFTER
from hub.silence import MOST_EVENTS, Silence
from hub.telemetry import presencelog
from tests.hub.world import World
from tests.support.uplinks import presence, rows, status

MINUTE = 60_000
GRACE = SILENT_AFTER * 300_000
"""After which a device of the test hub is silent (ms)."""


def log(world: World, device_id: str = "shop-1") -> list[tuple[str, str, int]]:
    """State, reason and times of every entry, in order."""
    found = rows(
        world.store,
        "SELECT presence_log.* FROM presence_log JOIN devices ON devices.key = device_key "
        "WHERE device_id = :id ORDER BY at, id",
        id=device_id,
    )
    return [(row["state"], row["reason"], row["times"]) for row in found]


def say(world: World, *said: Any, device_id: str = "shop-1") -> None:
    """Take in presences a minute apart: (state, session) or a message."""
    for each in said:
        message = presence(*each) if isinstance(each, tuple) else each
        world.uplink(device_id, message)
        world.now += MINUTE


@pytest.mark.parametrize(
    ("said", "entries"),
    [
        pytest.param([("online", 1)], [("online", "connected", 1)], id="first heard of"),
        pytest.param(
            [("online", 1), presence("offline", 1)],
            [("online", "connected", 1), ("offline", "will", 1)],
            id="the broker's word",
        ),
        pytest.param(
            [("online", 1), presence("offline", 1, at=5)],
            [("online", "connected", 1), ("offline", "disconnect", 1)],
            id="its own goodbye",
        ),
        pytest.param(
            [("online", 1), ("offline", 1), ("online", 2), ("offline", 2)],
            [("online", "connected", 1), ("offline", "will", 1)] * 2,
            id="each time offline stands for itself",
        ),
        pytest.param(
            [("online", 1), ("online", 2), ("online", 3)],
            [("online", "connected", 3)],
            id="reconnecting is no change",
        ),
        pytest.param([("online", 1), ("online", 1)], [("online", "connected", 1)], id="said again"),
        pytest.param(
            [("online", 2), ("offline", 1)], [("online", "connected", 1)], id="a stale will is not heard"
        ),
        pytest.param(
            [("online", 1), presence("sleeping", 1, next_wake=9)],
            [("online", "connected", 1), ("sleeping", "sleeping", 1)],
            id="sleeping",
        ),
        pytest.param(
            [
                each
                for n in (1, 2, 3)
                for each in (presence("online", n), presence("sleeping", n, next_wake=n))
            ],
            [("online", "connected", 3), ("sleeping", "sleeping", 3)],
            id="waking by a timer is no news",
        ),
        pytest.param(
            [("online", 1), presence("sleeping", 1, next_wake=9), ("offline", 2), ("online", 3)],
            [
                ("online", "connected", 1),
                ("sleeping", "sleeping", 1),
                ("offline", "will", 1),
                ("online", "connected", 1),
            ],
            id="a fall while awake",
        ),
    ],
)
def test_an_entry_is_a_change(world: World, said: list[Any], entries: list[tuple[str, str, int]]) -> None:
    world.device("shop-1")
    say(world, *said)
    assert log(world) == entries


def test_an_entry_says_when_it_began_and_what_was_the_last_of_it(world: World) -> None:
    world.device("shop-1")
    begin = world.now
    say(world, ("online", 1), presence("online", 7, boot=(4, "00000002")))
    (row,) = rows(world.store, "SELECT at, last_at, boot, session FROM presence_log")
    assert row == {"at": begin, "last_at": begin + MINUTE, "boot": 4, "session": 7}


def test_a_device_that_comes_and_goes_for_ever_keeps_its_newest_entries(world: World) -> None:
    world.device("shop-1")
    world.device("shop-2")
    say(world, ("online", 1), device_id="shop-2")
    for session in range(1, 80):
        say(world, ("online", session), ("offline", session))
    found = rows(world.store, "SELECT session FROM presence_log WHERE device_key = 1 ORDER BY id")
    assert len(found) == presencelog.MOST
    assert [found[0]["session"], found[-1]["session"]] == [30, 79]
    assert log(world, "shop-2") == [("online", "connected", 1)]


def test_a_clock_that_is_set_back_changes_nothing_about_what_came_last(world: World) -> None:
    world.device("shop-1")
    say(world, ("online", 1))
    world.now -= 60 * MINUTE
    say(world, ("offline", 1), ("online", 2), ("online", 3))
    found = rows(world.store, "SELECT state, times FROM presence_log ORDER BY id")
    assert [tuple(row.values()) for row in found] == [("online", 1), ("offline", 1), ("online", 2)]


# Silence


class Watched:
    """A hub that looks when told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.silence = Silence(world.store, lambda: world.now, lambda: world.observed_since)

    def look(self, after: int = 0) -> list[tuple[str | None, str]]:
        """Look after some time (ms); return the events about presence since the last look."""
        self.world.now += after
        before = len(self.events())
        self.silence.look()
        return [(row["device_id"], row["kind"]) for row in self.events()[before:]]

    def events(self) -> list[dict[str, Any]]:
        kinds = "('device.offline', 'device.online', 'device.presence_changed')"
        return rows(self.world.store, f"SELECT * FROM events WHERE kind IN {kinds} ORDER BY id")


@pytest.fixture
def watched(world: World) -> Watched:
    world.device("shop-1")
    return Watched(world)


def test_a_device_that_misses_its_heartbeats_goes_offline_once(watched: Watched) -> None:
    watched.world.heartbeat("shop-1")
    assert watched.look() == [("shop-1", "device.online")]
    assert watched.look(GRACE) == []
    assert watched.look(1) == [("shop-1", "device.offline")]
    assert watched.look(GRACE) == []
    assert log(watched.world) == [("online", "connected", 1), ("offline", "missed_heartbeats", 1)]
    (event,) = [row for row in watched.events() if row["kind"] == "device.offline"]
    assert (event["actor"], event["reason"], event["role"]) == ("rule:presence", "missed_heartbeats", "kiosk")


def test_each_device_is_measured_by_its_own_interval(watched: Watched) -> None:
    world = watched.world
    world.device("shop-2")
    assert world.client.patch("/devices/shop-2", json={"update_interval": 3600}).status_code == 200
    for device_id in ("shop-1", "shop-2"):
        world.heartbeat(device_id)
    watched.look()
    assert watched.look(GRACE + 1) == [("shop-1", "device.offline")]
    assert watched.look(SILENT_AFTER * 3_600_000) == [("shop-2", "device.offline")]


def test_a_device_that_is_heard_again_is_back_without_a_new_connection(watched: Watched) -> None:
    watched.world.heartbeat("shop-1")
    watched.look(GRACE + 1)
    watched.world.uplink("shop-1", status(1000, boot=(9, "00000009")))
    assert watched.look() == [("shop-1", "device.online")]
    assert [entry[:2] for entry in log(watched.world)][-2:] == [
        ("offline", "missed_heartbeats"),
        ("online", "heard"),
    ]
    assert watched.look(GRACE + 1) == [("shop-1", "device.offline")]


def test_a_device_that_connects_again_is_back(watched: Watched) -> None:
    say(watched.world, ("online", 1))
    watched.look(GRACE)
    say(watched.world, ("online", 2))
    assert watched.look() == [("shop-1", "device.online")]
    assert watched.look() == []


def test_the_will_of_a_device_that_had_fallen_silent_is_no_news(watched: Watched) -> None:
    say(watched.world, ("online", 1))
    watched.look(GRACE)
    say(watched.world, ("offline", 1))
    assert watched.look() == []
    assert [entry[:2] for entry in log(watched.world)] == [
        ("online", "connected"),
        ("offline", "missed_heartbeats"),
    ]


def test_a_sleeping_device_is_missed_only_after_its_wake(watched: Watched) -> None:
    wake = watched.world.now // 1000 + 86_400
    say(watched.world, ("online", 1), presence("sleeping", 1, next_wake=wake))
    assert watched.look() == [("shop-1", "device.online")]
    watched.world.now = wake * 1000 + GRACE
    assert watched.look() == []
    assert watched.look(1) == [("shop-1", "device.offline")]


def test_a_device_that_only_posts_is_watched_too(watched: Watched) -> None:
    """It never says a presence."""
    watched.world.uplink("shop-1", status(1))
    assert watched.look() == []
    assert watched.look(GRACE + 1) == [("shop-1", "device.offline")]
    watched.world.uplink("shop-1", status(2))
    assert watched.look() == [("shop-1", "device.online")]
    assert watched.world.client.get("/devices/shop-1").json()["presence"] == "online"


def test_what_the_hub_did_not_listen_to_is_nobodys_silence(watched: Watched) -> None:
    watched.world.heartbeat("shop-1")
    watched.look()
    watched.world.observed_since = watched.world.now + 10 * GRACE
    assert watched.look(10 * GRACE + 1) == []
    assert watched.look(GRACE) == [("shop-1", "device.offline")]


def test_a_hub_that_starts_again_does_not_call_the_silent_back(watched: Watched) -> None:
    watched.world.heartbeat("shop-1")
    watched.look(GRACE + 1)
    watched.world.observed_since = watched.world.now
    again = Watched(watched.world)
    assert again.look() == again.look(GRACE + 1) == []


def test_a_device_never_heard_of_and_a_revoked_one_are_not_missed(watched: Watched) -> None:
    watched.world.device("shop-2")
    watched.world.heartbeat("shop-2")
    watched.look()
    watched.world.client.post("/devices/shop-2/revoke")
    assert watched.look(2 * GRACE) == []


def test_a_hub_that_stops_finishes_the_transaction_and_no_more(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "CHUNK", 1)
    world = watched.world
    for number in range(3):
        world.heartbeat(world.device(f"many-{number}"))
    watched.look()
    written: list[int] = []
    put = presencelog.put

    def put_and_stop(*args: Any) -> None:
        put(*args)
        written.append(1)
        watched.silence.stop()

    monkeypatch.setattr(presencelog, "put", put_and_stop)
    assert watched.look(GRACE + 1) == []
    assert written == [1]
    again = Watched(world)
    assert [kind for _, kind in again.look()] == ["device.offline"] * 3


def test_coming_and_going_between_two_looks_is_no_event(watched: Watched) -> None:
    say(watched.world, ("online", 1))
    watched.look()
    say(watched.world, ("offline", 1), ("online", 2))
    assert watched.look() == []
    assert [entry[0] for entry in log(watched.world)] == ["online", "offline", "online"]


def test_a_fleet_that_goes_at_once_does_not_fill_the_audit(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 130 devices as at a million: sixty by name, the rest as one number."""
    monkeypatch.setattr(silence, "CHUNK", 7)
    monkeypatch.setattr(silence, "ENTRIES", 50)
    world = watched.world
    with world.store.write() as tx:
        tx.executemany(
            "INSERT INTO devices (device_id, public_key, role, segment, update_interval, created_at, updated_at) "
            "VALUES (?, 'k', 'kiosk', 'canary', 300, 0, 0)",
            [(f"many-{n:03}",) for n in range(130)],
        )
    for n in range(130):
        world.uplink(f"many-{n:03}", presence("online", 1))
    watched.look()
    world.now += GRACE + MINUTE
    found = watched.look()
    assert found[:-1] == [(f"many-{n:03}", "device.offline") for n in range(MOST_EVENTS)]
    assert found[-1] == (None, "device.presence_changed")
    assert watched.events()[-1]["body"] == f'{{"offline":{130 - MOST_EVENTS},"online":0}}'
    assert len(rows(world.store, "SELECT * FROM presence_log WHERE state = 'offline'")) == 130

    for n in range(130):
        world.uplink(f"many-{n:03}", presence("online", 2))
    assert watched.look() == [(None, "device.presence_changed")]
    assert watched.events()[-1]["body"] == '{"offline":0,"online":130}'
    say(world, ("online", 1))
    assert watched.look(MINUTE) == [("shop-1", "device.online")]
