"""Which waiting reports may go: never what became of something, always what a later report says better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.config import Paths
from edge.storage import outbox, records, spool, state, worth
from edge.storage.spool import Spool
from edge.storage.state import NO_SPOOL, Pending, State
from tests.edge.world import DESIRED_TOPIC, FLEET, NOW, Box, build
from tests.topics import kit
from topics import codec
from topics.documents import Command
from topics.messages import CommandResult, Drift, Durable, Recovery, UpdateResult

AT = NOW // 1000
COMMON: dict[str, Any] = {"boot": (1, "00000000"), "at": AT, "spool": NO_SPOOL, "n": 1}


def pending(message: Durable) -> Pending:
    return Pending(1, message.kind, codec.encode(message))  # type: ignore[attr-defined]


def result(what: Any, attempt: int = 1, **more: Any) -> Pending:
    return pending(
        UpdateResult(**{**COMMON, "state": what, "release": "kiosk-7-a", "attempt": attempt, **more})
    )


def refused(check: str, topic: str = "t") -> Pending:
    return pending(UpdateResult(**COMMON, state="refused", check=check, topic=topic))


def drift(**more: Any) -> Pending:
    return pending(Drift(**{**COMMON, **more}))


def stay(what: Any, **more: Any) -> Pending:
    return pending(Recovery(**{**COMMON, "entry": "own-1", "state": what, **more}))


ANSWER = pending(CommandResult(**COMMON, command="c-1", ok=True))
UNREADABLE = Pending(1, "drift", b"\xc1")

SUPERSEDED = [
    pytest.param([result("downloading"), result("committed")], {0}, id="a begin whose end waits behind it"),
    pytest.param([result("downloading"), result("failed", 2)], set(), id="the begin of another attempt"),
    pytest.param([result("downloading")], set(), id="a begin without an end"),
    pytest.param(
        [result("failed", 1), result("failed", 2), result("failed", 3)], set(), id="no result, ever"
    ),
    pytest.param([drift(), drift(), drift()], {0, 1}, id="all looks for drift but the newest"),
    pytest.param([stay("diagnostics"), stay("diagnostics")], {0}, id="all diagnostics but the newest"),
    pytest.param([stay("entered"), stay("left"), stay("entered")], set(), id="no stay in safe mode"),
    pytest.param(
        [refused("fleet"), refused("fleet"), refused("addressee"), refused("fleet", "u")],
        {0, 1},
        id="all refusals by one check but the newest",
    ),
    pytest.param([ANSWER, ANSWER], set(), id="no answer to a command"),
    pytest.param([UNREADABLE, UNREADABLE], set(), id="not what cannot be read"),
]


@pytest.mark.parametrize(("reports", "gone"), SUPERSEDED)
def test_superseded(reports: list[Pending], gone: set[int]) -> None:
    assert worth.superseded(reports) == gone


OLD = AT - worth.MAX_AGE - 1
OUTDATED = [
    pytest.param(drift(at=OLD), True, id="an old look for drift"),
    pytest.param(stay("diagnostics", at=OLD), True, id="old diagnostics"),
    pytest.param(drift(at=AT - worth.MAX_AGE), False, id="one that is not old enough"),
    pytest.param(drift(at=12), False, id="one of a clock that was never set"),
    pytest.param(result("committed", at=OLD), False, id="a result"),
    pytest.param(result("downloading", at=OLD), False, id="a begin, whose end may be yet to come"),
    pytest.param(stay("entered", at=OLD), False, id="the begin of a stay in safe mode"),
]


@pytest.mark.parametrize(("report", "gone"), OUTDATED)
def test_outdated(report: Pending, gone: bool) -> None:
    assert worth.outdated([report], AT) == ({0} if gone else set())


def test_an_outbox_keeps_everything_until_it_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    row = [drift(), drift()]
    assert outbox.added(row, drift()) == [*row, drift()]
    monkeypatch.setattr(outbox, "MAX_BYTES", outbox.size(row))
    newest = drift(at=AT + 1)
    assert outbox.added([*row, ANSWER], newest) == [ANSWER, newest]
    assert outbox.is_full([*row, ANSWER])


def numbered(*reports: Pending) -> list[Pending]:
    return [records.changed(each, serial=serial) for serial, each in enumerate(reports, 1)]


def appended(kept: Spool, reports: list[Pending]) -> list[bool]:
    return [
        kept.append("update:1", serial, each.channel, lambda _s, _n, body=each.body: body)  # type: ignore[misc]
        for serial, each in enumerate(reports, 1)
    ]


def test_a_spool_without_room_gives_up_what_is_superseded_and_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = [result("downloading"), drift(), result("committed"), drift(at=AT + 1)]
    monkeypatch.setattr(spool, "MAX_BYTES", outbox.size(reports))
    path = tmp_path / "frames"
    kept = Spool(path)
    assert appended(kept, [*reports, ANSWER]) == [True, True, True, True, False]
    assert kept.thin() == 2
    assert appended(kept, [*reports, ANSWER])[-1]
    assert kept.thin() == 0
    kept.close()
    again = Spool(path)
    left = [(each.n, each.body) for each in again.reports]
    again.close()
    assert left == [(3, reports[2].body), (4, reports[3].body), (5, ANSWER.body)]


@pytest.fixture
def crowded(box: Box, monkeypatch: pytest.MonkeyPatch) -> Box:
    """A device whose spool and outbox are full of results that nobody has receipted."""
    monkeypatch.setattr(spool, "MAX_BYTES", 1)
    monkeypatch.setattr(outbox, "MAX_BYTES", outbox.size([result("failed")]))
    held = records.changed(box.state, serial=2, outbox=numbered(result("failed"), result("failed", 2)))
    state.save(box.paths, held)
    box.start()
    box.online()
    return box


def test_without_room_for_its_report_nothing_begins_and_with_room_it_does(
    crowded: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build(7)
    crowded.offer(built)
    command = Command(id="c-1", kind="report-now", expires_at=NOW + kit.DAY)
    crowded.hear(kit.signed_desired(crowded.numbers.next(), commands=[command]), DESIRED_TOPIC)
    assert crowded.state.update is None
    assert crowded.memory.done == []
    assert crowded.state.outbox == numbered(result("failed"), result("failed", 2))
    assert crowded.status.verdict and crowded.status.verdict.reason == "eligible"
    # The hub is there again.
    monkeypatch.setattr(spool, "MAX_BYTES", 1_000_000)
    crowded.agent.report_now()
    crowded.agent.consider()
    crowded.settle()
    assert crowded.state.running_id == built.id
    assert crowded.memory.done == ["c-1"]
    assert crowded.results() == [
        ("failed", "kiosk-7-a"),
        ("failed", "kiosk-7-a"),
        ("downloading", built.id),
        ("committed", built.id),
    ]


def test_a_device_that_connects_forgets_what_helps_nobody_any_more(box: Box) -> None:
    waiting = numbered(drift(at=OLD), result("failed", at=OLD))
    state.save(box.paths, records.changed(box.state, serial=2, outbox=waiting))
    box.start()
    box.agent.start()
    assert len(box.spool) == 2
    box.agent.on_connected()
    assert box.results() == [("failed", "kiosk-7-a")]
    assert box.link.of("drift") == []


def test_what_a_hostile_broker_makes_a_device_refuse_does_not_fill_its_disk(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each refused document is another one, and the hub, which nobody lets in, receipts none of their reports."""
    monkeypatch.setattr(spool, "MAX_BYTES", 600)
    monkeypatch.setattr(outbox, "MAX_BYTES", 600)
    for number in range(30):
        box.hear(b"x%d" % number)
        box.hear(b"x%d" % number, f"{FLEET}/v1/anything/{number}")
    held = box.memory.outbox
    assert outbox.size(held) + spool.held(box.spool.reports) < 2_000
    assert box.paths.memory.stat().st_size < 20_000


def test_the_state_file_is_bounded_however_often_something_is_reported(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    held = State(id="00" * 8)
    big = "x" * 8_000
    for number in range(100):
        held = state.with_report(
            held,
            Recovery(
                **{**COMMON, "at": AT + number}, entry="", state="diagnostics", diagnostics={"log": big}
            ),
        )
    state.save(paths, held)
    assert paths.state.stat().st_size < outbox.MAX_BYTES + 10_000
    assert codec.decode(held.outbox[-1].body, Recovery, limit=65_536).at == AT + 99
