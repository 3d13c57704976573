"""What the hub makes of a device's reports, through ingest's own `reduce` and `commit`."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any, Final

from msgspec import structs

from edge.storage.spool import Spool
from hub.broker import commit
from hub.broker.reduce import Uplink, reduce
from tests.edge.world import DEVICE, FLEET
from tests.kills.device import Copy
from tests.support.uplinks import open_store, rows
from topics import codec
from topics.channels import BY_NAME, UPLINK_LIMIT
from topics.messages import UPLINK_TYPES

AT: Final = 1_800_000_000
"""When reports come in, in s."""


class Record:
    """A hub's store. Every life of a device is told to it as a device of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = open_store(folder)
        self._names = (f"life-{number}" for number in itertools.count(1))

    def of(self, uplinks: list[Uplink]) -> tuple[dict[str, tuple[str, int]], Counter[tuple[str, str]]]:
        """Take in all that was heard in one life, twice.

        Return the last (state, attempt) by release, and how many reports of each kind and state were kept.
        """
        name = next(self._names)
        open_store(self._folder, name).close()
        theirs = [
            structs.replace(each, topic=each.topic.replace(f"/{DEVICE}/", f"/{name}/")) for each in uplinks
        ]
        for _ in range(2):
            with self._store.write() as tx:
                commit.apply(tx, reduce(theirs, None, AT), AT * 1000)
        attempts = rows(
            self._store,
            "SELECT release_id, state, attempt FROM attempts JOIN devices ON key = device_key WHERE device_id = :id",
            id=name,
        )
        reports = rows(
            self._store,
            "SELECT kind, body FROM reports JOIN devices ON key = device_key WHERE device_id = :id",
            id=name,
        )
        kinds = Counter((row["kind"], _state(row)) for row in reports)
        return {row["release_id"]: (row["state"], row["attempt"]) for row in attempts}, kinds

    def told_once(self, copy: Copy, uplinks: list[Uplink], *, tries: bool = False) -> None:
        """Assert that the hub knows what became of a device's task, once, however often the reports came.

        With `tries`, attempts may have failed before; each has its begin and its end.
        """
        task = copy.task
        states, kinds = self.of(uplinks)
        if task.reports:
            for kind, times in task.reports.items():
                assert kinds[kind] in ((times, times + 1) if tries else (times,)), kinds
            assert set(task.calls) <= set(copy.calls()), "what was ordered must have been done"
            return
        ((release, (state, attempt)),) = states.items()
        assert (release, state) == (task.new.id, task.state)
        assert kinds[("update-result", task.state)] == 1
        ended_before = kinds[("update-result", "failed")]
        assert kinds[("update-result", "downloading")] == ended_before + 1
        assert not ended_before or tries
        assert attempt == 1 + ended_before + (task.name == "back to the release before")
        assert kinds[("recovery", "entered")] == bool(copy.state.safe_mode) == (task.name == "into safe mode")

    def close(self) -> None:
        self._store.close()


def sent(spool: Spool) -> list[Uplink]:
    """What waits in a spool, as it will come to the hub."""
    return [
        Uplink(BY_NAME[each.channel].topic(FLEET, id=DEVICE), each.body, codec.MSGPACK)
        for each in spool.reports
    ]


def _state(row: dict[str, Any]) -> str:
    report = codec.decode(row["body"], UPLINK_TYPES[row["kind"]], limit=UPLINK_LIMIT)
    return str(getattr(report, "state", ""))
