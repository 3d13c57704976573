"""Who floods, for how long nothing of theirs is passed on, and that the broker then does not."""

from __future__ import annotations

import asyncio
import random
import resource
import time
from contextlib import closing
from pathlib import Path

import pytest

from hub.broker.abuse import muting as muting_module
from hub.broker.abuse.connections import ENOUGH, RESERVE, most_connections
from hub.broker.abuse.floods import HOLD_S, LONGEST_S, MOST, SAMPLE, WINDOW_S, Floods, Holds
from hub.broker.abuse.muting import Muting
from hub.broker.arrivals import Uplink
from hub.store import SqliteStore, StoreBusy
from tests.support.mosquitto import FLEET, Broker
from tests.support.uplinks import rows, topic


def sent(device_id: str, count: int, kind: str = "status") -> list[Uplink]:
    return [Uplink(topic(device_id, kind), b"")] * count


@pytest.mark.parametrize(
    ("batches", "floods"),
    [
        pytest.param([(0.0, sent("a", MOST // 10))] * 10, [], id="as much as it may"),
        pytest.param([(0.0, sent("a", MOST // 10))] * 11, ["a"], id="a tenth more"),
        pytest.param([(0.0, sent("a", MOST)), (WINDOW_S, sent("a", MOST))], [], id="in two windows"),
        pytest.param(
            [(0.0, [*sent("a", MOST), *sent("a", MOST, "update-result")])], ["a"], id="on several topics"
        ),
        pytest.param([(0.0, sent("a", MOST) + sent("b", 2 * MOST))], ["b"], id="one of two"),
        pytest.param(
            [(0.0, [one for n in range(MOST) for one in sent(f"d-{n}", 20)])], [], id="a fleet, each a little"
        ),
        pytest.param([(0.0, [Uplink("nonsense", b"")] * 2 * MOST)], [], id="nobody's"),
        pytest.param(
            [(0.0, [Uplink(f"{FLEET}/v1/devices/a b\nuser svc.hoister/up/status", b"")] * 2 * MOST)],
            [],
            id="a name that would be lines of the access list",
        ),
        pytest.param([], [], id="nothing"),
    ],
)
def test_who_floods(batches: list[tuple[float, list[Uplink]]], floods: list[str]) -> None:
    counted = Floods(FLEET, random.Random(1))
    counted.begin(0.0)
    found: list[str] = []
    for at, arrivals in batches:
        found = counted.heard(arrivals, at)
    assert found == floods


def test_a_sample_counts_as_the_whole_does() -> None:
    counted = Floods(FLEET, random.Random(1))
    counted.begin(0.0)
    mixed = sent("few", MOST // 2) + sent("many", MOST * 2)
    assert len(mixed) > SAMPLE
    assert counted.heard(mixed, 0.0) == ["many"]


def test_a_backlog_is_no_flood() -> None:
    """What waited in the broker was sent over days, whatever the rate at which it is taken in."""
    counted = Floods(FLEET, random.Random(1))
    assert counted.heard(sent("a", 10 * MOST), 0.0) == []
    counted.begin(1.0)
    assert counted.heard(sent("a", 10), 1.0) == []
    counted.forget()
    assert counted.heard(sent("a", 10 * MOST), 2.0) == []


def test_a_hold_grows_with_each_flood_and_is_forgotten_after_an_hour_without() -> None:
    holds, at, lengths = Holds(), 0.0, []
    for _ in range(8):
        lengths.append(holds.hold("a", at))
        assert holds.hold("a", at + 1) == 0
        assert (holds.held(at + 1), holds.next_end(at + 1)) == (["a"], lengths[-1] - 1)
        at += lengths[-1]
        assert (holds.held(at), holds.next_end(at)) == ([], None)
    assert lengths == [HOLD_S * 2**n for n in range(6)] + [LONGEST_S] * 2
    assert holds.hold("a", at + LONGEST_S) == HOLD_S


def test_a_muted_device_is_refused_what_it_sends_until_its_hold_ends(tmp_path: Path) -> None:
    later = [0.0]
    with (
        Broker(tmp_path) as broker,
        closing(SqliteStore(tmp_path / "hub.db")) as store,
        broker.device("shop-1") as loud,
        broker.device("shop-2") as other,
        broker.service("svc.hoister") as hoister,
    ):
        muting = Muting(store, lambda: 1_000, lambda: time.monotonic() + later[0])
        own = f"{FLEET}/v1/devices/shop-1/down/desired"
        loud.subscribe(own)

        async def until_answered(*answers: int) -> None:
            while await asyncio.to_thread(loud.publish, topic("shop-1", "status"), b"x") not in answers:
                pass

        async def main() -> None:
            reload = asyncio.create_task(muting.run(lambda: broker.reload([], muted=muting.muted())))
            async with asyncio.timeout(60):
                muting.flooded(["shop-1"])
                await until_answered(0x87)
                assert other.publish(topic("shop-2", "status"), b"x") in (0, 0x10)
                assert hoister.publish(own, b"still heard") == 0
                assert loud.receive() == (own, b"still heard")
                later[0] = HOLD_S
                muting.flooded(["shop-3"])  # somebody else's hold: whoever's has ended is let go with it
                await until_answered(0, 0x10)
            reload.cancel()

        asyncio.run(main())
        found = rows(store, "SELECT kind, device_id, actor, reason FROM events ORDER BY id")
    assert found[0] == {
        "kind": "device.muted",
        "device_id": "shop-1",
        "actor": "rule:floods",
        "reason": "sent more than 5000 messages within 10 s; muted for 60 s",
    }
    assert [row["device_id"] for row in found] == ["shop-1", "shop-3"]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(OSError(28, "No space left on device"), id="a full disk"),
        pytest.param(StoreBusy("locked"), id="a database that does not say who was withdrawn"),
    ],
)
def test_a_list_that_cannot_be_written_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(muting_module, "RETRY_S", 0.0)
    tries: list[list[str]] = []
    with closing(SqliteStore(tmp_path / "hub.db")) as store:
        muting = Muting(store, lambda: 1_000, lambda: 0.0)

        async def main() -> None:
            loop, written = asyncio.get_running_loop(), asyncio.Event()

            def reload() -> None:
                tries.append(muting.muted())
                if len(tries) == 1:
                    raise error
                loop.call_soon_threadsafe(written.set)

            muting.flooded(["shop-1"])
            task = asyncio.create_task(muting.run(reload))
            async with asyncio.timeout(60):
                await written.wait()
            task.cancel()

        asyncio.run(main())
    assert tries == [["shop-1"]] * 2


@pytest.mark.parametrize(
    ("limits", "raised", "most"),
    [
        pytest.param((1_024, 4_096), (4_096, 4_096), 4_096 - RESERVE, id="as far as it may"),
        pytest.param((4_096, 4_096), None, 4_096 - RESERVE, id="as it is"),
        pytest.param((1_024, -1), (ENOUGH, -1), ENOUGH - RESERVE, id="without a limit"),
        pytest.param((64, 64), None, 1, id="hardly any"),
    ],
)
def test_how_many_connections_devices_may_have(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], raised: tuple[int, int] | None, most: int
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _which, wanted: asked.append(wanted))
    assert most_connections() == most
    assert asked == ([raised] if raised else [])


def test_a_hold_that_ends_is_told_without_a_wake(tmp_path: Path) -> None:
    later, told = [0.0], []
    with closing(SqliteStore(tmp_path / "hub.db")) as store:
        muting = Muting(store, lambda: 1_000, lambda: time.monotonic() + later[0])

        async def main() -> None:
            loop, ended = asyncio.get_running_loop(), asyncio.Event()

            def reload() -> None:
                told.append(muting.muted())
                later[0] = HOLD_S - 0.5
                if len(told) == 2:
                    loop.call_soon_threadsafe(ended.set)

            muting.flooded(["shop-1"])
            task = asyncio.create_task(muting.run(reload))
            async with asyncio.timeout(60):
                await ended.wait()
            task.cancel()

        asyncio.run(main())
    assert told == [["shop-1"], []]
