"""When a slot gives up on the broker: silence counts, a long backlog and a slow disk of our own do not."""

from __future__ import annotations

import mqtt5
import pytest

from hub.broker import session
from hub.broker.arrivals import Uplink
from hub.broker.session import CONNECT_SECONDS, KEEPALIVE, IngestSettings, Session
from hub.broker.wire import LinkError, Packet, Parsed

SETTINGS = IngestSettings("acme", 1)


class FakeLink:
    """A connection on which the broker says what the test puts there."""

    def __init__(self) -> None:
        self.next = Parsed([], [], 0)
        self.sent: list[bytes] = []

    def says(self, *packets: Packet, uplinks: int = 0) -> None:
        arrivals = [Uplink("acme/v1/devices/a/up/status", b"x", packet_id=1)] * uplinks
        self.next = Parsed(arrivals, list(packets), len(packets) + uplinks)

    def read(self) -> tuple[Parsed, bool]:
        parsed, self.next = self.next, Parsed([], [], 0)
        return parsed, False

    def send(self, *packets: bytes) -> None:
        self.sent += packets

    def flush(self) -> None:
        pass


class Clock:
    """A monotonic clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Slot:
    """A session that has connected, and the loop of ingest around it."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.link = clock, FakeLink()
        self.session = Session(self.link, SETTINGS)  # type: ignore[arg-type]
        self.session.connect()

    def turn(self, seconds: float, *packets: Packet, uplinks: int = 0, commit: float | None = None) -> None:
        """After `seconds` something arrives; what is pending is committed within `commit` s if given."""
        self.clock.now += seconds
        self.link.says(*packets, uplinks=uplinks)
        self.session.read()
        if commit is not None and self.session.is_due():
            self.clock.now += commit
            self.session.acknowledge(len(self.session.pending))
        self.session.keep_alive()

    def granted(self) -> None:
        count = len(SETTINGS.subscriptions())
        self.turn(0, mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE] * count))


@pytest.fixture
def slot(monkeypatch: pytest.MonkeyPatch) -> Slot:
    clock = Clock()
    monkeypatch.setattr(session, "time", clock)
    return Slot(clock)


def test_a_backlog_that_takes_longer_than_the_answer_may_is_no_silence(slot: Slot) -> None:
    """The broker answers SUBSCRIBE behind all that it has queued for us."""
    for _ in range(10):
        slot.turn(CONNECT_SECONDS - 1, uplinks=100)
    slot.granted()
    assert slot.session.subscribed
    assert len(slot.session.pending) == 1_000


def test_a_broker_that_does_not_answer_at_all_is_given_up(slot: Slot) -> None:
    slot.turn(CONNECT_SECONDS)
    with pytest.raises(LinkError, match="does not answer"):
        slot.turn(0.1)


def test_a_backlog_that_stops_before_the_answer_is_silence(slot: Slot) -> None:
    slot.turn(1, uplinks=100)
    with pytest.raises(LinkError, match="does not answer"):
        slot.turn(CONNECT_SECONDS + 0.1)


@pytest.mark.parametrize(
    ("subscribed", "seconds"),
    [
        pytest.param(False, CONNECT_SECONDS + 1, id="before-the-answer"),
        pytest.param(True, KEEPALIVE * 1.5 + 1, id="subscribed"),
    ],
)
def test_a_commit_that_takes_long_is_not_the_brokers_silence(
    slot: Slot, subscribed: bool, seconds: float
) -> None:
    if subscribed:
        slot.granted()
    for _ in range(3):
        slot.turn(1, uplinks=100)
        slot.turn(1, uplinks=100, commit=seconds)
        assert slot.session.pending == []


def test_a_broker_that_dies_during_a_long_commit_is_noticed_after_it(slot: Slot) -> None:
    slot.granted()
    slot.turn(1, uplinks=100)
    slot.turn(1, commit=1_000)
    with pytest.raises(LinkError, match="fallen silent"):
        slot.turn(KEEPALIVE * 1.5 + 1)


def test_an_idle_slot_is_kept_alive_by_the_brokers_answers(slot: Slot) -> None:
    slot.granted()
    before = len(slot.link.sent)
    for _ in range(10):
        slot.turn(KEEPALIVE / 2, mqtt5.PingRespPacket())
    assert slot.link.sent[before:] == [mqtt5.PingReqPacket().write()] * 10


def test_a_subscription_that_is_refused_ends_the_session(slot: Slot) -> None:
    with pytest.raises(LinkError, match="refused a subscription"):
        slot.turn(1, mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode.NOT_AUTHORIZED]))
