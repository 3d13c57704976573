"""The event log: numbered in the order of commits, chained so that a changed row shows."""

from __future__ import annotations

import sqlite3

import pytest

from hub import events
from hub.caller import Caller
from hub.events import Event
from tests.hub.world import World

CALLER = Caller("alice", "operator", "req-1")


def write(world: World, *kinds: str) -> None:
    with world.store.write() as tx:
        for kind in kinds:
            events.append(tx, Event(kind=kind, body={"b": 1, "a": [2]}), CALLER, world.now)


def seal(world: World, limit: int = 5_000) -> int:
    with world.store.write() as tx:
        return events.seal(tx, limit=limit)


def test_events_are_numbered_without_a_gap_in_the_order_they_were_committed(bare: World) -> None:
    write(bare, "one", "two")
    assert seal(bare) == 2
    write(bare, "three")
    assert (seal(bare), seal(bare)) == (1, 0)
    with bare.store.read() as tx:
        rows = events.after(tx, 0, limit=10)
        assert [(row["n"], row["kind"], row["actor"]) for row in rows] == [
            (1, "one", "alice"),
            (2, "two", "alice"),
            (3, "three", "alice"),
        ]
        assert [row["n"] for row in events.after(tx, 2, limit=10)] == [3]


def test_a_long_queue_is_sealed_in_bounded_steps(bare: World) -> None:
    write(bare, *"abcde")
    assert [seal(bare, limit=2) for _ in range(4)] == [2, 2, 1, 0]


def test_what_is_rolled_back_leaves_no_event(bare: World) -> None:
    try:
        with bare.store.write() as tx:
            events.append(tx, Event(kind="lost"), CALLER, bare.now)
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert seal(bare) == 0


def test_a_row_that_was_changed_no_longer_fits_its_hash(bare: World) -> None:
    write(bare, "one", "two", "three")
    seal(bare)
    assert broken_at(bare) is None
    with bare.tampering() as tx:
        tx.execute("UPDATE events SET reason = 'better' WHERE n = 2")
    assert broken_at(bare) == 2


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("UPDATE events SET reason = 'better' WHERE n = 1", id="changed"),
        pytest.param("UPDATE events SET n = NULL, hash = NULL", id="unnumbered"),
        pytest.param("DELETE FROM events WHERE n = 1", id="deleted"),
        pytest.param("DELETE FROM events WHERE n IS NULL", id="deleted before it has its number"),
    ],
)
def test_the_database_itself_keeps_events_as_they_are(bare: World, statement: str) -> None:
    write(bare, "one")
    seal(bare)
    write(bare, "two")
    with pytest.raises(sqlite3.IntegrityError, match="an event"), bare.store.write() as tx:
        tx.execute(statement)
    assert seal(bare) == 1 and broken_at(bare) is None


def broken_at(world: World) -> int | None:
    previous = events.GENESIS
    with world.store.read() as tx:
        for row in events.after(tx, 0, limit=100):
            if events.chain(previous, row["n"], row) != row["hash"]:
                return int(row["n"])
            previous = row["hash"]
    return None
