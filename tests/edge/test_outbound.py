"""Reports on their way: sent in order, sent again until the hub's receipt, never counted by a PUBACK alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.outbound import WINDOW, Outbound
from edge.storage.beats import Beats
from edge.storage.spool import Spool
from edge.storage.state import NO_SPOOL, Pending
from tests.edge.world import QUICK, FakeLink
from topics import codec
from topics.messages import Receipt, UpdateResult


class Desk:
    """An outbound on an in-memory broker, with a clock that stands until it is moved."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.link = FakeLink()
        self.spool = Spool(folder / "frames")
        self.outbound = Outbound(
            self.link,
            self.spool,
            QUICK,
            fleet="acme",
            device_id="shop-12",
            steady=lambda: self.now,
            beats=Beats(folder / "beats"),
        )

    def report(self, serial: int) -> None:
        body = codec.encode(UpdateResult(boot=(1, "0" * 8), at=serial, spool=NO_SPOOL, n=1, state="failed"))
        self.outbound.take("update:1", [Pending(serial, "update-result", body)])

    def connect(self) -> None:
        self.link.sent.clear()
        self.outbound.connected()
        self.outbound.pump()

    @property
    def sent(self) -> list[int]:
        return [message.n for message in self.link.of("update-result")]

    def receipt(self, n: int) -> None:
        self.outbound.receipt(Receipt(spool=self.spool.reports[0].spool, n=n))


@pytest.fixture
def desk(tmp_path: Path) -> Any:
    made = Desk(tmp_path)
    yield made
    made.spool.close()


def test_reports_made_offline_go_out_in_order_at_the_next_connection(desk: Desk) -> None:
    """D14."""
    for serial in (1, 2, 3):
        desk.report(serial)
    assert desk.sent == []
    desk.connect()
    assert desk.sent == [1, 2, 3]
    assert [message.at for message in desk.link.of("update-result")] == [1, 2, 3]


def test_a_report_that_nobody_could_read_keeps_no_later_one_back(desk: Desk) -> None:
    """D8. An agent that ended by it would end by it at every start."""
    assert desk.outbound.take("update:1", [Pending(1, "update-result", b"\xc1")])
    desk.report(2)
    desk.connect()
    assert [message.at for message in desk.link.of("update-result")] == [2]


def test_a_puback_forgets_nothing_and_a_receipt_does(desk: Desk) -> None:
    desk.connect()
    desk.report(1)
    desk.outbound.published(1, 0)
    assert len(desk.spool) == 1
    desk.receipt(1)
    assert len(desk.spool) == 0
    desk.connect()
    assert desk.sent == []


def test_every_connection_sends_what_has_no_receipt(desk: Desk) -> None:
    desk.connect()
    for serial in (1, 2):
        desk.report(serial)
    desk.outbound.disconnected()
    desk.connect()
    assert desk.sent == [1, 2]


def test_without_a_receipt_reports_are_sent_again_ever_more_slowly(desk: Desk) -> None:
    desk.connect()
    desk.report(1)
    times = []
    for _ in range(3):
        due = desk.outbound.deadline
        assert due is not None
        times.append(due - desk.now)
        desk.now = due
        desk.outbound.tick()
    assert desk.sent == [1, 1, 1, 1]
    assert times == [5, 5, 10]


def test_a_refused_publish_is_kept_and_sent_again(desk: Desk) -> None:
    """D11: a broker's access list refuses (0x87), and MQTT calls that an answer like any other."""
    desk.connect()
    desk.report(1)
    desk.outbound.published(1, 0x87)
    assert len(desk.spool) == 1
    assert desk.sent == [1], "not at once: the list will not have changed"
    desk.now = desk.outbound.deadline or 0
    desk.outbound.tick()
    assert desk.sent == [1, 1]


def test_no_more_than_a_window_is_on_its_way(desk: Desk) -> None:
    for serial in range(1, 41):
        desk.report(serial)
    desk.connect()
    assert desk.sent == list(range(1, WINDOW + 1))
    desk.receipt(10)
    assert desk.sent == list(range(1, WINDOW + 11))
    desk.receipt(WINDOW + 10)
    assert desk.sent == list(range(1, 41))
