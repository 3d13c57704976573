"""Ingest and Mosquitto killed again and again: what was acknowledged counts once, and no update result is missing."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from hub.store import SqliteStore
from tests.support.counts import counted
from tests.support.ingest_process import MOMENTS, NEVER, Entry, IngestProcess
from tests.support.mosquitto import Broker
from tests.support.senders import Sender, Senders, without_power_cuts
from tests.support.uplinks import open_store, rows

SEED: Final = int(os.environ.get("FLAGHOIST_CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
BATCHES: Final = (25, 400, 4_000, 32_000)
DURABLE: Final = 5
"""Every fifth report is an update result."""
_LINE: Final = 18
"""Bytes of a line in the ledger, at least."""


class Size(NamedTuple):
    """How large the trial is. `reports` of all devices together, `kills` from outside at random, and `moments` more
    within the steps from transaction to receipt."""

    reports: int
    devices: int
    kills: int
    moments: int


@pytest.mark.timeout(300)
def test_what_was_acknowledged_counts_once_though_ingest_and_broker_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trial(tmp_path, monkeypatch, Size(reports=4_000, devices=20, kills=4, moments=4))


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_two_hundred_thousand_reports_count_once_through_twenty_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trial(tmp_path, monkeypatch, Size(reports=200_000, devices=200, kills=20, moments=8))


def _trial(folder: Path, monkeypatch: pytest.MonkeyPatch, size: Size) -> None:
    without_power_cuts(monkeypatch)
    names = [f"device-{number}" for number in range(size.devices)]
    store = open_store(folder, *names)
    begin = int(time.time()) // 300 * 300 - 40 * 3_600
    with Broker(folder) as broker:
        senders = Senders(
            Sender(broker, folder, name, size.reports // size.devices, durable=DURABLE, begin=begin)
            for name in names
        )
        try:
            story = _Story(broker, folder, senders, size)
            story.tell()
        finally:
            senders.close()
    _judge(store, senders, story, begin)
    store.close()


class _Story:
    """What happens, decided by the seed and by how far things have come."""

    def __init__(self, broker: Broker, folder: Path, senders: Senders, size: Size) -> None:
        self._broker, self._folder, self._senders, self._size = broker, folder, senders, size
        self._chance = random.Random(SEED)
        self.lives: list[IngestProcess] = []
        self.lost_by_broker = 0
        """Update results that Mosquitto had taken and that were gone with it."""

    def tell(self) -> None:
        """Let everything happen; returns once every device has every receipt."""
        size, senders, chance = self._size, self._senders, self._chance
        each = size.reports // size.devices
        began = time.monotonic()
        print(f"seed {SEED} (FLAGHOIST_CRASH_SEED), {size}")
        ends = [NEVER] * size.kills + [MOMENTS[i % len(MOMENTS)] for i in range(size.moments)]
        chance.shuffle(ends)
        with_broker = ends.index(NEVER, 1)
        try:
            self._begin_life_that_subscribes(ends[0])
            for number, (end, following) in enumerate(pairwise([*ends, NEVER])):
                self._live(each * (number + 1) // (len(ends) + 1), end)
                if number == with_broker:
                    self._kill_broker(each)
                    self._begin_life_that_subscribes(following)
                else:
                    for sender in chance.sample(senders.all, size.devices // 20):
                        sender.restart()
                    self._begin_life(following)
            senders.goal = each
            senders.run(lambda: all(sender.is_done for sender in senders.all), "the last receipt")
        finally:
            for life in self.lives:
                life.kill()
        print(f"{time.monotonic() - began:.1f} s, {len(ends)} kills of ingest and one of Mosquitto")

    def _begin_life(self, end: str) -> None:
        batch = self._chance.choice(BATCHES)
        self.lives.append(IngestProcess(self._broker, self._folder, len(self.lives), batch, end))

    def _begin_life_that_subscribes(self, end: str) -> None:
        """Begin one that finds no session in the broker: until it subscribes, the broker keeps nothing for it."""
        seen = len(self._broker.log)
        self._begin_life(end)
        self._senders.run(
            lambda: any("svc.ingest-0" in line for line in self._broker.log[seen:]), "the subscription"
        )

    def _live(self, goal: int, end: str) -> None:
        """Let devices report until there are `goal` of each, and ingest work until its end."""
        life, senders, chance = self.lives[-1], self._senders, self._chance
        new = (goal - senders.goal) * self._size.devices
        senders.goal = (senders.goal + goal + 1) // 2
        if end != NEVER:

            def has_ended() -> bool:
                if life.written:
                    senders.goal = goal  # for the commit after the first
                return not life.is_alive

            senders.run(has_ended, f"the end {end}")
        else:
            if chance.random() < 0.8:
                # In the midst of its work, else somewhere in its start.
                least = chance.randrange(1, _LINE * new // 4)
                senders.run(lambda: life.written >= least, "an acknowledgement")
            ends_at = time.monotonic() + chance.uniform(0, 0.03)
            senders.run(lambda: time.monotonic() >= ends_at, "the moment")
            assert life.is_alive
            life.kill()
        senders.goal = goal

    def _kill_broker(self, each: int) -> None:
        """Kill Mosquitto while it holds update results that it has acknowledged and nobody else has."""
        senders = self._senders
        senders.goal = min(each, senders.goal + 2 * DURABLE)
        senders.run(
            lambda: all(sender.made == senders.goal and not sender.awaiting for sender in senders.all),
            "the broker's word for everything",
        )
        self._broker.kill()
        committed = {(entry.device_id, entry.n) for entry in self.entries() if entry.n}
        held = {(sender.device_id, n) for sender in senders.all for n in sender.published}
        self.lost_by_broker = len(held - committed)
        senders.next_life()
        self._broker.start()

    def entries(self) -> list[Entry]:
        """Everything acknowledged so far, repetitions included."""
        return [entry for life in self.lives for entry in life.acknowledged()]


def _judge(store: SqliteStore, senders: Senders, story: _Story, begin: int) -> None:
    entries = story.entries()
    repeated = len(entries) - len(set(entries))
    beats_acknowledged = {(entry.device_id, entry.boot, entry.seq) for entry in entries if entry.seq}
    lost_beats = 0
    for sender in senders.all:
        found = counted(store, sender.device_id, begin)
        assert set(found.values()) == {1}, f"{sender.device_id} counts {found.most_common(3)}"
        acknowledged = {
            beat for beat, (boot, seq) in enumerate(sender.beats) if (sender.device_id, boot, seq) in beats_acknowledged
        }  # fmt: skip
        assert acknowledged - found.keys() == set(), "acknowledged, and not counted"
        last_life = {beat for beat, life in sender.accepted.items() if life == sender.life}
        assert last_life - found.keys() == set(), "taken by a broker that lived, and not counted"
        lost_beats += len(sender.beats) - len(found)
    _judge_reports(store, senders, {(entry.device_id, entry.n) for entry in entries if entry.n})
    print(
        f"{repeated} acknowledged more than once, {lost_beats} heartbeats gone with Mosquitto or with an agent, "
        f"{story.lost_by_broker} update results that Mosquitto lost and devices sent again"
    )
    assert story.lost_by_broker > 0
    assert rows(store, "SELECT * FROM quarantine") == []


def _judge_reports(store: SqliteStore, senders: Senders, acknowledged: set[tuple[str, int]]) -> None:
    sent = {(sender.device_id, n) for sender in senders.all for n in sender.published}
    found = rows(
        store, "SELECT device_id, spool, n, release_id FROM reports JOIN devices ON devices.key = device_key"
    )
    assert Counter((row["device_id"], row["n"]) for row in found) == Counter(sent)
    assert acknowledged <= sent
    for sender in senders.all:
        own = sorted((row["n"], row["release_id"]) for row in found if row["device_id"] == sender.device_id)
        assert own == [(n, f"kiosk-{n}-abc") for n in range(1, sender.made // DURABLE + 1)]
    attempts = rows(store, "SELECT COUNT(*) AS n FROM attempts")
    assert attempts == [{"n": len(sent)}]
    spools = rows(store, "SELECT DISTINCT contiguous FROM spools")
    assert [row["contiguous"] for row in spools] == [senders.all[0].made // DURABLE]
