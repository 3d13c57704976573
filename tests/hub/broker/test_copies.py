"""Two agents under one id are told of, and nobody else is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.broker import commit, copies
from hub.broker.reduce import reduce
from hub.store import SqliteStore
from tests.support.uplinks import open_store, rows, status, uplink
from topics.messages import Boot, Status

ONE: Boot = (6, "0000000a")
OTHER: Boot = (6, "0000000b")
THIRD: Boot = (6, "0000000d")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = open_store(tmp_path, "shop-1", "shop-2")
    yield made
    made.close()


def hear(store: SqliteStore, *heard: Status, now: int = 1_800_000_000_000) -> None:
    with store.write() as tx:
        commit.apply(tx, reduce([uplink("shop-1", each) for each in heard], None, now // 1000), now)


def told(store: SqliteStore) -> list[tuple[str, str]]:
    events = rows(store, "SELECT device_id, actor, reason FROM events WHERE kind = 'device.copied'")
    assert {event["reason"] for event in events} <= {copies.REASON}
    return [(event["device_id"], event["actor"]) for event in events]


@pytest.mark.parametrize(
    ("beats", "copied"),
    [
        pytest.param(
            [status(1, boot=ONE), status(1, boot=OTHER), status(2, boot=ONE), status(2, boot=OTHER)],
            True,
            id="d10 both connect in turn",
        ),
        pytest.param(
            [status(7, boot=ONE), status(1, boot=OTHER), status(8, boot=ONE), status(2, boot=OTHER)],
            True,
            id="one has been there for longer",
        ),
        pytest.param(
            [status(1, boot=ONE), status(1, boot=OTHER), status(2, boot=OTHER), status(1, boot=ONE)],
            True,
            id="one is faster",
        ),
        pytest.param(
            [status(7, boot=ONE), *(status(seq, boot=OTHER) for seq in range(1, 12))],
            False,
            id="a memory that fell back gave a number twice",
        ),
        pytest.param(
            [status(3, boot=ONE), status(1, boot=OTHER), status(1, boot=THIRD), status(2, boot=THIRD)],
            False,
            id="a full disk that writes no start down",
        ),
        pytest.param([status(seq, boot=ONE) for seq in (1, 2, 3)], False, id="one agent"),
        pytest.param([status(2, boot=ONE), status(1, boot=ONE)], False, id="out of order"),
        pytest.param([status(1, boot=ONE), status(1, boot=ONE)], False, id="delivered twice"),
        pytest.param(
            [status(5, boot=(5, "0000000c")), status(1, boot=ONE), status(6, boot=(5, "0000000c"))],
            False,
            id="late, of the start before",
        ),
    ],
)
@pytest.mark.parametrize("together", [pytest.param(True, id="one batch"), pytest.param(False, id="batches")])
def test_two_agents_under_one_id_are_told_of(
    store: SqliteStore, beats: list[Status], copied: bool, together: bool
) -> None:
    for batch in [beats] if together else [[beat] for beat in beats]:
        hear(store, *batch)
    assert told(store) == [("shop-1", "rule:copies")] * copied


def test_they_are_told_of_once_an_hour(store: SqliteStore) -> None:
    start = 1_800_000_000_000
    for number in range(1, 40):
        boot = (ONE, OTHER)[number % 2]
        hear(store, status((number + 1) // 2, boot=boot), now=start + number * 180_000)
    assert len(told(store)) == 2
