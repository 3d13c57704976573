"""Event streams: nothing missed after a reconnect, states told to newcomers, everything ended when the hub stops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from hub import events
from hub.caller import Caller
from hub.errors import TooMany
from hub.events import Event
from hub.streams import ENDS, MAX_EACH, MAX_STREAMS, Filter, Streams, TooManyStreams
from tests.hub.world import World

CALLER = Caller("alice", "operator")


def write(world: World, *written: Event) -> None:
    with world.store.write() as tx:
        for event in written:
            events.append(tx, event, CALLER, world.now)
        events.seal(tx)


def parse(chunk: bytes) -> dict[str, Any]:
    fields = dict(line.split(": ", 1) for line in chunk.decode().strip().splitlines())
    return {**fields, "data": json.loads(fields.get("data", "null"))}


class Client:
    """Reads one stream as a browser would."""

    def __init__(self, streams: Streams, after: int, about: Filter) -> None:
        self._stream = streams.follow(after, about)

    async def read(self, count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while len(found) < count:
            chunk = await asyncio.wait_for(anext(self._stream), 10)
            if not chunk.startswith((b"retry", b":")):
                found.append(parse(chunk))
        return found


def with_streams(world: World, body: Callable[[Streams], Awaitable[None]]) -> None:
    async def run() -> None:
        streams = Streams(world.store)
        streams.start()
        world.store.on_commit(streams.wake)
        await body(streams)

    asyncio.run(run())


def test_a_client_that_comes_back_with_the_last_id_misses_nothing_and_sees_nothing_twice(bare: World) -> None:
    async def body(streams: Streams) -> None:
        write(bare, *(Event(kind=f"k{n}") for n in range(1, 6)))
        first = await Client(streams, 0, Filter()).read(3)
        write(bare, Event(kind="k6"))
        again = await Client(streams, int(first[-1]["id"]), Filter()).read(3)
        assert [row["event"] for row in first + again] == ["k1", "k2", "k3", "k4", "k5", "k6"]
        assert [row["id"] for row in first + again] == ["1", "2", "3", "4", "5", "6"]

    with_streams(bare, body)


def test_what_is_sealed_reaches_an_open_stream_at_once(bare: World) -> None:
    async def body(streams: Streams) -> None:
        client = Client(streams, 0, Filter())
        waiting = asyncio.create_task(client.read(1))
        await asyncio.sleep(0)
        await asyncio.to_thread(write, bare, Event(kind="now", reason="why", body={"a": [1]}))
        (row,) = await waiting
        assert row["event"] == "now" and row["data"]["body"] == {"a": [1]} and row["data"]["reason"] == "why"

    with_streams(bare, body)


def test_a_newcomer_is_told_every_state_that_stands_and_later_changes(bare: World) -> None:
    async def body(streams: Streams) -> None:
        streams.signal("fleet", {"devices": 1})
        streams.signal("fleet", {"devices": 2})
        streams.signal("roles/kiosk", {"devices": 2})
        client = Client(streams, 0, Filter())
        told = [row["data"] for row in await client.read(2)]
        assert told == [
            {"summary": "fleet", "state": {"devices": 2}},
            {"summary": "roles/kiosk", "state": {"devices": 2}},
        ]
        streams.signal("fleet", None)
        assert (await client.read(1))[0]["data"] == {"summary": "fleet", "state": None}

    with_streams(bare, body)


def test_a_devices_stream_holds_its_own_events_and_its_roles_releases(bare: World) -> None:
    async def body(streams: Streams) -> None:
        write(
            bare,
            Event(kind="other.device", device_id="shop-2", role="kiosk"),
            Event(kind="own", device_id="shop-1", role="kiosk"),
            Event(kind="other.role", release_id="till-1", role="till"),
            Event(kind="release", release_id="kiosk-1", role="kiosk"),
        )
        streams.signal("fleet", {"devices": 2})
        found = await Client(streams, 0, Filter("shop-1", "kiosk")).read(2)
        assert [row["event"] for row in found] == ["own", "release"]

    with_streams(bare, body)


def test_every_stream_ends_when_the_hub_stops(bare: World) -> None:
    async def body(streams: Streams) -> None:
        async def drain() -> None:
            async for _ in streams.follow(0, Filter()):
                pass

        tasks = [asyncio.create_task(drain()) for _ in range(3)]
        while streams.open < 3:
            await asyncio.sleep(0)
        streams.close()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        assert streams.open == 0

    with_streams(bare, body)


def test_more_streams_than_the_hub_serves_are_refused(bare: World) -> None:
    streams = Streams(bare.store)
    streams.open = MAX_STREAMS - 1
    streams.admit("alice")
    streams.open = MAX_STREAMS
    with pytest.raises(TooManyStreams):
        streams.admit("alice")


def test_who_has_opened_many_is_refused_further_ones_and_nobody_else_is(bare: World) -> None:
    """One viewer's key, or one device, once took every stream there is, and the Ops page of all others stood still."""

    async def body(streams: Streams) -> None:
        def opened() -> AsyncIterator[bytes]:
            streams.admit("mallory")
            return streams.follow(0, Filter(), who="mallory")

        admitted = [opened() for _ in range(MAX_EACH + 1)]
        began = [await anext(one, b"") for one in admitted]
        assert [bool(text) for text in began] == [True] * MAX_EACH + [False], (
            "all asked before the first began"
        )
        with pytest.raises(TooMany):
            streams.admit("mallory")
        streams.admit("alice")
        await admitted[0].aclose()  # type: ignore[attr-defined]
        streams.admit("mallory")

    with_streams(bare, body)


@pytest.mark.parametrize("header", ["x", "-1", "1.5", "9" * 40])
def test_a_last_event_id_that_is_no_number_is_refused(world: World, header: str) -> None:
    answer = world.client.get("/events", headers={"Last-Event-ID": header})
    assert answer.status_code == 422 and answer.json()["rule"] == "last_event_id"


@pytest.mark.parametrize("kind", ENDS)
def test_a_devices_own_stream_ends_with_its_identity_and_an_operators_goes_on(bare: World, kind: str) -> None:
    async def body(streams: Streams) -> None:
        write(bare, Event(kind=kind, device_id="shop-1"), Event(kind="k1", device_id="shop-1"))
        own, operators = (
            Client(streams, 0, Filter("shop-1", "kiosk", since)) for since in (streams.last(), None)
        )
        assert [row["event"] for row in await own.read(2)] == [kind, "k1"], "an end of long ago is history"
        write(
            bare,
            Event(kind=kind, device_id="shop-2"),
            Event(kind=kind, device_id="shop-1"),
            Event(kind="k2", role="kiosk"),
        )
        assert [row["event"] for row in await own.read(1)] == [kind]
        with pytest.raises(StopAsyncIteration):
            await own.read(1)
        assert [row["event"] for row in await operators.read(4)] == [kind, "k1", kind, "k2"]
        assert streams.open == 1

    with_streams(bare, body)
