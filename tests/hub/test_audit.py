"""The audit: found by whoever and whatever it was about, and proved without the hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import events
from hub.audit.chain import Account, Begin, Entry, Seal, examine
from hub.audit.checkpoints import DAY_MS, checkpoint_if_due
from hub.caller import Caller
from hub.events import Event
from hub.signer import Signer
from tests.hub.world import World
from tests.topics import kit
from topics.envelope import key_id

CALLER = Caller("alice", "operator", "req-1")
KEYS = {key_id(kit.public("hub-1")): kit.public("hub-1")}


def write(world: World, count: int) -> None:
    with world.store.write() as tx:
        for number in range(count):
            event = Event(
                kind="device.changed", device_id=f"shop-{number % 3}", body={"before": {"x": number}}
            )
            events.append(tx, event, CALLER, world.now)
        events.seal(tx)


def seal_day(world: World) -> bool:
    world.now += DAY_MS
    return checkpoint_if_due(world.store, world.signer, world.now) is not None


def lines_of(world: World, after: int = 0) -> list[bytes]:
    answer = world.client.get("/audits/export", params={"after": after})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    return answer.content.splitlines()


@pytest.fixture
def lines(world: World) -> list[bytes]:
    """An export with ten events, a checkpoint behind the fifth of them, and one at the end."""
    start = len(world.events())
    write(world, 5)
    assert seal_day(world)
    write(world, 5)
    assert seal_day(world)
    found = lines_of(world, start)
    assert [json.loads(line)["line"] for line in found] == [
        "export", *["event"] * 5, "checkpoint", *["event"] * 5, "checkpoint",
    ]  # fmt: skip
    return found


def changed(line: bytes, **fields: Any) -> bytes:
    return json.dumps({**json.loads(line), **fields}).encode()


def rehashed(lines: Sequence[bytes]) -> list[bytes]:
    """The work of a forger who can compute: every hash follows from what now stands before it."""
    made, n, previous = [], 0, ""
    for line in lines:
        item = msgspec.json.decode(line, type=Begin | Entry | Seal)
        if isinstance(item, Begin):
            n, previous = item.after, item.previous
        elif isinstance(item, Entry):
            n += 1
            row = msgspec.structs.asdict(item) | {
                "body": msgspec.json.encode(item.body, order="sorted").decode()
            }
            previous = events.chain(previous, n, row)
            line = changed(line, n=n, hash=previous)
        made.append(line)
    return made


def first(account: Account) -> tuple[int, str]:
    return account.findings[0].line, account.findings[0].what


def test_a_whole_export_proves_itself(lines: list[bytes]) -> None:
    account = examine(lines, KEYS)
    assert (account.findings, account.entries, account.checkpoints) == ([], 10, 3)
    assert account.last == account.first + 9


def _swap(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[4], lines[3], *lines[5:]]


DEEP = b'{"x":' * 100_000 + b"1" + b"}" * 100_000

ATTACKS: list[tuple[str, Callable[[list[bytes]], list[bytes]], int, str]] = [
    ("body", lambda x: [*x[:3], changed(x[3], body={"before": {"x": 9}}), *x[4:]], 4, "is not what was sealed"),
    ("actor", lambda x: [*x[:3], changed(x[3], actor="bob"), *x[4:]], 4, "is not what was sealed"),
    ("time", lambda x: [*x[:3], changed(x[3], at=0), *x[4:]], 4, "is not what was sealed"),
    ("own-hash", lambda x: [*rehashed([*x[:3], changed(x[3], actor="bob")]), *x[4:]], 5, "the hash before it"),
    ("dropped", lambda x: [*x[:3], *x[4:]], 4, "is missing"),
    ("dropped-three", lambda x: [*x[:2], *x[5:]], 3, "are missing"),
    ("moved", _swap, 4, "is missing"),
    ("doubled", lambda x: [*x[:4], x[3], *x[4:]], 5, "moved or doubled"),
    ("end-cut-off", lambda x: [*x[:9], x[-1]], 10, "its end was cut off"),
    ("end-cut-off-with-its-checkpoint", lambda x: x[:9], 1, "the export ends before it"),
    ("cut-off-at-a-checkpoint", lambda x: x[:7], 1, "its end was cut off"),
    ("cut-off-and-nothing-said", lambda x: [changed(x[0], end=None), *x[1:9]], 9, "no checkpoint says so"),
    ("all-events-cut-off", lambda x: x[:1], 1, "its end was cut off"),
    ("emptied", lambda x: [], 1, "the file is empty"),
    ("said-twice", lambda x: [*x[:3], b'{"actor":"bob",' + x[3][1:], *x[4:]], 4, "is not a line of an export"),
    ("said-twice-within", lambda x: [*x[:3], x[3].replace(b'{"x":', b'{"x":0,"x":'), *x[4:]], 4, "not a line"),
    ("said-besides", lambda x: [*x[:3], changed(x[3], approved_by="bob"), *x[4:]], 4, "is not a line of an export"),
    ("no-number", lambda x: [*x[:3], x[3].replace(b'{"x":2}', b'{"x":NaN}'), *x[4:]], 4, "not a line"),
    ("too-deep", lambda x: [*x[:3], x[3].replace(b'{"x":2}', DEEP), *x[4:]], 4, "is not a line of an export"),
    ("beginning-cut-off", lambda x: x[2:], 1, "first line of the export is missing"),
    ("two-exports", lambda x: [*x, x[0]], 14, "in the middle of another"),
    ("line-garbled", lambda x: [*x[:3], b"\x00" + x[3], *x[4:]], 4, "is not a line of an export"),
    ("line-broken", lambda x: [*x[:3], x[3][:20], *x[4:]], 4, "is not a line of an export"),
    ("rewritten-whole", lambda x: rehashed([*x[:3], changed(x[3], actor="bob"), *x[4:]]), 7, "another hash"),
    ("dropped-and-rewritten", lambda x: rehashed([*x[:3], *x[4:]]), 7, "another hash"),
    ("checkpoint-moved", lambda x: [*x[:6], *x[7:9], x[6], *x[9:]], 9, "in another place"),
    ("other-fleet", lambda x: [changed(x[0], fleet="other"), *x[1:]], 1, "was sealed for fleet"),
    ("garbage-checkpoint", lambda x: [*x[:6], changed(x[6], envelope="AAAA"), *x[7:]], 7, "no checkpoint to believe"),
]  # fmt: skip


@pytest.mark.parametrize(("attack", "line", "words"), [pytest.param(*row[1:], id=row[0]) for row in ATTACKS])
def test_what_was_done_to_an_export_shows_and_where(
    lines: list[bytes], attack: Callable[[list[bytes]], list[bytes]], line: int, words: str
) -> None:
    found, what = first(examine(attack(list(lines)), KEYS))
    assert words in what
    # A dropped line shifts the rest: the finding is on the first line behind the gap.
    assert found == line


def test_an_export_written_in_another_way_says_the_same(lines: list[bytes]) -> None:
    again = [json.dumps(json.loads(line), indent=None, sort_keys=True).encode() for line in lines]
    assert examine(again, KEYS).findings == []


def test_an_export_after_the_newest_event_proves_that_nothing_came_since(world: World) -> None:
    newest = len(world.events())
    (begin,) = lines_of(world, newest)
    account = examine([begin], KEYS)
    assert (account.findings, account.entries, account.last) == ([], 0, newest)
    refused = world.client.get("/audits/export", params={"after": newest + 1})
    assert (refused.status_code, refused.json()["rule"]) == (422, "after")


def test_events_deleted_from_the_database_are_missed_by_every_later_export(world: World) -> None:
    write(world, 5)
    assert seal_day(world)
    with world.tampering() as tx:
        tx.execute("DELETE FROM events WHERE n > (SELECT MAX(n) - 2 FROM events)")
    assert "its end was cut off" in first(examine(lines_of(world), KEYS))[1]


def test_a_checkpoint_by_another_key_is_not_believed(world: World, lines: list[bytes]) -> None:
    forger = Signer(kit.FLEET, kit.key("forger"))
    write(world, 1)
    world.now += DAY_MS
    assert checkpoint_if_due(world.store, forger, world.now)
    found = lines_of(world, json.loads(lines[0])["after"])
    assert "no checkpoint to believe" in first(examine(found, KEYS))[1]
    assert examine(found).findings == []


def test_a_checkpoint_is_made_once_a_day_and_only_of_something_new(world: World) -> None:
    world.events()
    assert checkpoint_if_due(world.store, world.signer, world.now)
    write(world, 1)
    assert checkpoint_if_due(world.store, world.signer, world.now + DAY_MS - 1) is None
    assert seal_day(world)
    assert not seal_day(world)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param({"deviceId": "shop-1"}, 2, id="device"),
        pytest.param({"actor": "alice"}, 5, id="actor"),
        pytest.param({"actor": "mallory"}, 0, id="nobody"),
        pytest.param({"kind": "device.changed", "deviceId": "shop-0"}, 2, id="kind-and-device"),
        pytest.param({"requestId": "req-1"}, 5, id="request"),
        pytest.param({"releaseId": "kiosk-1-aaaaaaaaaaaa"}, 0, id="release"),
        pytest.param({"actor": "alice", "since": "2199-01-01T00:00:00Z"}, 0, id="since"),
        pytest.param({"actor": "alice", "until": "1970-01-01T00:00:00Z"}, 0, id="until"),
    ],
)
def test_events_are_found_by_what_they_are_about(world: World, query: dict[str, str], expected: int) -> None:
    write(world, 5)
    assert len(world.client.get("/audits", params=query).json()["items"]) == expected


def test_pages_go_back_without_a_gap_while_new_events_come(world: World) -> None:
    write(world, 5)
    pages = world.client.get("/audits", params={"limit": 3, "actor": "alice"}).json()
    write(world, 2)
    rest = world.client.get(
        "/audits", params={"limit": 3, "actor": "alice", "cursor": pages["next_cursor"]}
    ).json()
    numbers = [item["n"] for item in pages["items"] + rest["items"]]
    assert numbers == list(range(numbers[0], numbers[0] - 5, -1))
    assert rest["next_cursor"] is None


def test_the_last_page_has_no_cursor_also_when_it_is_full(world: World) -> None:
    write(world, 4)
    query: dict[str, Any] = {"limit": 2, "actor": "alice"}
    first_page = world.client.get("/audits", params=query).json()
    rest = world.client.get("/audits", params={**query, "cursor": first_page["next_cursor"]}).json()
    assert (len(rest["items"]), rest["next_cursor"]) == (2, None)


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"cursor": "x"}, {"since": "yesterday"}, {"since": "2026-11-25T10:00:00"}]
)
def test_a_question_that_makes_no_sense_is_refused(world: World, query: dict[str, Any]) -> None:
    assert world.client.get("/audits", params=query).status_code == 422


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), _values, max_size=4))
def test_any_body_is_exported_so_that_its_hash_can_be_computed_again(body: dict[str, Any]) -> None:
    kept = msgspec.json.encode(body, order="sorted")
    assert msgspec.json.encode(msgspec.json.decode(kept), order="sorted") == kept
