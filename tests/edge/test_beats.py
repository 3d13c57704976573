"""Heartbeats made while nobody could hear them: kept over a restart, bounded, sent in order, counted once."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.storage import beats
from edge.storage.beats import Beats
from hub.broker import commit
from hub.broker.reduce import Uplink, reduce
from hub.telemetry import rollups, tiers
from tests.edge.test_outbound import Desk
from tests.edge.world import DEVICE, NOW, Box, build
from tests.support.uplinks import open_store, rows, status
from topics import codec
from topics.messages import Status

START = 1_800_000_000


def bodies(kept: Beats) -> list[bytes]:
    return kept.oldest(10_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "beats"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.spool.close()


def test_they_outlive_a_restart_in_their_order_until_they_are_forgotten(path: Path) -> None:
    kept = Beats(path)
    for number in range(5):
        kept.keep(START + number, b"%d" % number)
    assert bodies(Beats(path)) == bodies(kept) == [b"0", b"1", b"2", b"3", b"4"]
    kept.forget(2)
    assert bodies(kept) == [b"2", b"3", b"4"]
    kept.forget(3)
    assert not path.exists()
    kept.keep(START, b"again")
    assert bodies(Beats(path)) == [b"again"]


def test_over_its_bytes_the_oldest_go_first(path: Path) -> None:
    kept = Beats(path)
    for number in range(3_000):
        kept.keep(START + number, b"%04d" % number + bytes(196))
    held = [int(body[:4]) for body in bodies(kept)]
    assert held == list(range(held[0], 3_000))
    assert beats.MAX_BYTES // 2 < len(held) * 200 <= beats.MAX_BYTES
    assert path.stat().st_size <= beats.MAX_BYTES * 1.2
    assert bodies(Beats(path)) == bodies(kept)


def test_what_is_too_old_goes(path: Path) -> None:
    kept = Beats(path)
    for at in (START, START + 100, START + beats.MAX_AGE + 50):
        kept.keep(at, b"%d" % at)
    assert (
        bodies(Beats(path)) == bodies(kept) == [b"%d" % (START + 100), b"%d" % (START + beats.MAX_AGE + 50)]
    )


def test_a_full_disk_costs_heartbeats_and_stops_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D2."""
    kept = Beats(path)

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.open", full)
        kept.keep(START, b"1")
    kept.keep(START + 1, b"2")
    assert bodies(kept) == [b"1", b"2"]
    assert bodies(Beats(path)) == [b"2"]


@given(
    bodies_=st.lists(st.binary(min_size=1, max_size=30), max_size=5),
    cut=st.integers(0, 300),
    tail=st.binary(),
)
def test_a_torn_file_costs_what_was_torn(
    tmp_path_factory: pytest.TempPathFactory, bodies_: list[bytes], cut: int, tail: bytes
) -> None:
    path = tmp_path_factory.mktemp("beats") / "beats"
    kept = Beats(path)
    ends = []
    for number, body in enumerate(bodies_):
        kept.keep(START + number, body)
        ends.append(path.stat().st_size)
    whole = path.read_bytes() if bodies_ else b""
    path.write_bytes(whole[:cut] + tail)
    left = sum(end <= cut for end in ends)
    assert bodies(Beats(path))[:left] == bodies_[:left]


def seqs(desk: Desk) -> list[int]:
    return [message.seq for message in desk.link.of("status")]


def beat(seq: int) -> Status:
    return status(seq, at=START + seq * 300)


def test_those_that_wait_go_first_and_none_overtakes_them(desk: Desk) -> None:
    for seq in range(1, 21):
        desk.outbound.heartbeat(beat(seq))
    assert seqs(desk) == []
    desk.connect()
    assert seqs(desk) == list(range(1, 17))
    desk.outbound.heartbeat(beat(21))
    for mid in range(1, 17):
        desk.outbound.published(mid, 0)
    assert seqs(desk) == list(range(1, 22))
    for mid in range(17, 22):
        desk.outbound.published(mid, 0)
    desk.outbound.heartbeat(beat(22))
    assert seqs(desk) == list(range(1, 23))


def test_without_the_brokers_word_they_are_sent_again(desk: Desk) -> None:
    for seq in (1, 2):
        desk.outbound.heartbeat(beat(seq))
    desk.connect()
    desk.outbound.published(1, 0)
    desk.outbound.disconnected()
    desk.connect()
    assert seqs(desk) == [1, 2]
    desk.outbound.published(3, 0)
    desk.outbound.published(4, 0x87)
    assert seqs(desk) == [1, 2]
    desk.now = desk.outbound.deadline or 0
    desk.outbound.tick()
    assert seqs(desk) == [1, 2, 1, 2]
    desk.outbound.published(5, 0)
    desk.outbound.published(6, 0)
    desk.connect()
    assert seqs(desk) == []


def test_d14_what_an_agent_measured_offline_and_before_a_restart_counts_once(
    tmp_path: Path, box: Box
) -> None:
    """The hub hears it twice."""
    box.offer(build(7))
    box.agent.on_disconnected()

    class Clock:
        def __init__(self, steady: float) -> None:
            self.now = steady

        def steady(self) -> float:
            return self.now

        def wall(self) -> int:
            return NOW + int(self.now * 1000)

    box.clock = Clock(1000.0)  # type: ignore[assignment]
    for _ in range(2):
        box.start()
        box.agent.start()
        box.settle()
        for _ in range(4):
            due = box.agent.next_heartbeat
            assert due is not None
            box.clock.now = due  # type: ignore[attr-defined]
            box.agent.tick()
            box.settle()
    box.start()
    box.online()
    told = box.link.of("status")
    boots = [message.boot[0] for message in told]
    assert boots == sorted(boots) and len(set(boots)) == 3
    assert [message.seq for message in told][:8] == [1, 2, 3, 4] * 2
    with closing(open_store(tmp_path, DEVICE)) as store:
        uplinks = [
            Uplink(topic, body, codec.MSGPACK) for topic, body in box.link.sent if topic.endswith("/status")
        ]
        for _ in range(2):
            with store.write() as tx:
                commit.apply(tx, reduce(uplinks, None, told[-1].at), told[-1].at * 1000)
        (latest,) = rows(store, "SELECT rollup FROM device_latest")
        closed = [tiers.bucket_of(row).count for row in rows(store, "SELECT * FROM rollups_5m")]
    assert rollups.unpack(latest["rollup"]).five.count + sum(closed) == len(told)
