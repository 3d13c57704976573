"""A device whose disk was restored from an older copy is heard again, and late messages are not taken for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.broker import commit, restored
from hub.broker.reduce import reduce
from hub.broker.restored import MARGIN_S
from hub.store import SqliteStore
from tests.support.uplinks import open_store, presence, rows, status, uplink
from topics.messages import Boot, Message

NOW = 1_800_000_000_000
AT = NOW // 1000
KNOWN: Boot = (900, "0000000a")
OLDER: Boot = (3, "0000000b")
SAME: Boot = (900, "0000000b")
LATER = AT + MARGIN_S + 1


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = open_store(tmp_path, "shop-1")
    yield made
    made.close()


def hear(store: SqliteStore, *heard: Message, now: int = NOW) -> None:
    with store.write() as tx:
        commit.apply(tx, reduce([uplink("shop-1", each) for each in heard], None, now // 1000), now)


def latest(store: SqliteStore) -> tuple[int, str, int]:
    (row,) = rows(store, "SELECT boot, boot_id, seq FROM device_latest")
    return row["boot"], row["boot_id"], row["seq"]


STARTS = [
    pytest.param({"boot": OLDER, "at": LATER}, OLDER, id="an older number, well after"),
    pytest.param({"boot": SAME, "at": LATER}, SAME, id="the same number given again, well after"),
    pytest.param({"boot": KNOWN, "at": LATER}, None, id="the start that is known"),
    pytest.param({"boot": OLDER, "at": LATER - 1}, None, id="not far enough after to be sure"),
    pytest.param({"boot": OLDER, "at": AT - 60}, None, id="late"),
    pytest.param({"boot": OLDER, "at": LATER, "clock_ok": False}, None, id="by a clock that nobody believes"),
    pytest.param({"boot": (901, "0000000b"), "at": LATER}, None, id="the next start"),
]


@pytest.mark.parametrize(("fields", "expected"), STARTS)
def test_what_shows_a_device_that_began_anew(fields: dict[str, object], expected: Boot | None) -> None:
    assert restored.start_of([status(1, **fields)], KNOWN, AT) == expected


def test_a_restored_device_is_heard_from_its_own_counters_on_and_told_of_once(store: SqliteStore) -> None:
    hear(store, presence(boot=KNOWN, session=50), status(70, boot=KNOWN, at=AT))
    hear(store, presence(boot=OLDER, session=9), status(1, boot=OLDER, at=AT + 60))
    assert latest(store) == (*KNOWN, 70), "it may be late"
    hear(store, status(2, boot=OLDER, at=LATER))
    assert latest(store) == (*OLDER, 2)
    hear(store, presence(boot=OLDER, session=10), status(3, boot=OLDER, at=LATER + 60))
    hear(store, status(4, boot=(4, "0000000c"), at=LATER + 120))
    assert latest(store) == (4, "0000000c", 4)
    (shown,) = rows(store, "SELECT boot, session FROM presence")
    assert (shown["boot"], shown["session"]) == (3, 10)
    told = rows(store, "SELECT device_id, actor FROM events WHERE kind = 'device.restored'")
    assert [(event["device_id"], event["actor"]) for event in told] == [("shop-1", "rule:restored")]
    assert rows(store, "SELECT 1 FROM events WHERE kind = 'device.copied'") == []


def test_messages_that_were_long_under_way_change_nothing(store: SqliteStore) -> None:
    hear(store, status(70, boot=KNOWN, at=AT))
    for seq in range(5, 0, -1):
        hear(store, status(seq, boot=OLDER, at=AT - 86_400 + seq))
    assert latest(store) == (*KNOWN, 70)
    assert rows(store, "SELECT 1 FROM events") == []


def test_of_two_agents_under_one_id_none_is_taken_for_restored(store: SqliteStore) -> None:
    hear(store, status(7, boot=KNOWN, at=AT), status(1, boot=SAME, at=AT), status(8, boot=KNOWN, at=AT))
    hear(store, status(2, boot=SAME, at=LATER))
    assert latest(store) == (*KNOWN, 8)
    assert len(rows(store, "SELECT 1 FROM events WHERE kind = 'device.restored'")) == 0
