"""The whole hub, as people run it, killed again and again while devices report: nothing counts twice or is lost."""

from __future__ import annotations

import os
import random
import time
from typing import Final

import pytest

from hub.store import SqliteStore
from tests.e2e.fleet import Fleet
from tests.e2e.played import credentials
from tests.support.counts import counted
from tests.support.senders import Sender, Senders, Way, without_power_cuts
from tests.support.uplinks import rows

SEED: Final = int(os.environ.get("FLAGHOIST_CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
DEVICES: Final = 4
REPORTS: Final = 400
DURABLE: Final = 5
KILLS: Final = 5


@pytest.mark.heavy
@pytest.mark.timeout(400)
def test_what_devices_report_counts_once_though_the_whole_hub_is_killed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_power_cuts(monkeypatch)
    chance = random.Random(SEED)
    print(f"seed {SEED} (FLAGHOIST_CRASH_SEED)")
    begin = int(time.time()) // 300 * 300 - 40 * 3_600
    agents = [fleet.enrol(f"shop-{number}", "canary") for number in range(DEVICES)]
    senders = Senders(
        Sender(
            Way(fleet.name, fleet.mqtt_port, credentials(agent).context()),
            fleet.folder, agent.device_id, REPORTS, durable=DURABLE, begin=begin,
        )
        for agent in agents
    )  # fmt: skip
    try:
        for kill in range(1, KILLS + 1):
            senders.goal = REPORTS * kill // (KILLS + 1)
            within = senders.goal - chance.randrange(1, REPORTS // (KILLS + 1))
            senders.run(lambda: all(sender.made >= within for sender in senders.all), "reports")  # noqa: B023
            fleet.kill_hub()
            senders.next_life()
            fleet.start_hub()
        senders.goal = REPORTS
        senders.run(lambda: all(sender.is_done for sender in senders.all), "every receipt")
    finally:
        senders.close()
    _judge(fleet, senders, begin)


def _judge(fleet: Fleet, senders: Senders, begin: int) -> None:
    store = SqliteStore(fleet.data / "hub.db")
    gone = 0
    for sender in senders.all:
        found = counted(store, sender.device_id, begin)
        assert set(found.values()) == {1}
        last_life = {beat for beat, life in sender.accepted.items() if life == sender.life}
        assert last_life - found.keys() == set()
        gone += len(sender.beats) - len(found)
    reports = rows(
        store,
        "SELECT device_id, n, release_id FROM reports JOIN devices ON devices.key = device_key ORDER BY 1, 2",
    )
    assert [(row["device_id"], row["n"], row["release_id"]) for row in reports] == [
        (sender.device_id, n, f"kiosk-{n}-abc")
        for sender in senders.all
        for n in range(1, REPORTS // DURABLE + 1)
    ]
    print(f"{KILLS} kills, {gone} heartbeats gone")
    store.close()
