"""What the hub makes of a device's reports, through ingest's own `reduce` and `commit`."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any, Final

from edge.storage.spool import Entry
from hub.broker import commit
from hub.broker.reduce import Uplink, reduce
from tests.support.uplinks import FLEET, open_store, rows
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

    def of(self, entries: list[Entry]) -> tuple[dict[str, tuple[str, int]], Counter[tuple[str, str]]]:
        """Take in all reports of one life, each twice.

        Return the last (state, attempt) by release, and how many reports of each kind and state were kept.
        """
        name = next(self._names)
        open_store(self._folder, name).close()
        uplinks = [
            Uplink(BY_NAME[each.channel].topic(FLEET, id=name), each.body, codec.MSGPACK) for each in entries
        ]
        for _ in range(2):
            with self._store.write() as tx:
                commit.apply(tx, reduce(uplinks, None, AT), AT * 1000)
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

    def close(self) -> None:
        self._store.close()


def _state(row: dict[str, Any]) -> str:
    report = codec.decode(row["body"], UPLINK_TYPES[row["kind"]], limit=UPLINK_LIMIT)
    return str(getattr(report, "state", ""))
