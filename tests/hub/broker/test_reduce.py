"""What a batch amounts to: the rules of `hub.broker.reduce`, one table a rule."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.broker.reduce import PART, REASONS, Batch, Refusal, Uplink, contiguous, heartbeats_of, parts, reduce
from tests.support.uplinks import SPOOL, presence, result, status, topic, uplink
from topics import codec
from topics.channels import SITE_UPLINKS
from topics.messages import CommandResult, Drift, Recovery

COMMON: dict[str, Any] = {"boot": (1, "00000001"), "at": 1, "spool": SPOOL}


def beat(boot: int, seq: int) -> Uplink:
    return uplink("a", status(seq, boot=(boot, "00000001")))


def heard(batch: Batch, device_id: str = "a") -> list[tuple[int, int]]:
    (beats,) = heartbeats_of(batch, {device_id}).values()
    return [(status.boot[0], status.seq) for status, _ in beats]


@pytest.mark.parametrize(
    ("arrivals", "state"),
    [
        pytest.param([("online", 1, 1), ("offline", 1, 1)], "offline", id="will-of-the-same-session"),
        pytest.param([("online", 1, 2), ("offline", 1, 1)], "online", id="stale-will-of-an-older-session"),
        pytest.param([("online", 2, 1), ("offline", 1, 9)], "online", id="stale-will-of-an-older-boot"),
        pytest.param([("offline", 1, 1), ("online", 1, 2)], "online", id="came-back"),
        pytest.param([("online", 1, 1), ("sleeping", 1, 1)], "sleeping", id="went-to-sleep"),
    ],
)
def test_the_latest_session_says_whether_a_device_is_there(
    arrivals: list[tuple[str, int, int]], state: str
) -> None:
    batch = reduce(
        uplink("a", presence(state, session, boot=(boot, "00000001"))) for state, boot, session in arrivals
    )
    assert batch.presences["a"][0].state == state


def test_a_cleared_presence_says_nothing() -> None:
    batch = reduce([Uplink(topic("a", "presence"), b"")])
    assert (batch.presences, batch.refusals) == ({}, [])


def test_a_repeated_report_is_one_report() -> None:
    batch = reduce([uplink("a", result(1)), uplink("a", result(1)), uplink("a", result(2))])
    assert sorted(batch.reports) == [("a", SPOOL, 1), ("a", SPOOL, 2)]


def test_the_same_number_of_another_device_or_spool_is_another_report() -> None:
    batch = reduce([uplink("a", result(1)), uplink("b", result(1)), uplink("a", result(1, spool="ffffffff"))])
    assert len(batch.reports) == 3


def test_broker_redeliveries_do_not_count_as_sent_by_the_device() -> None:
    batch = reduce([uplink("a", result(1)), uplink("a", result(1), duplicate=True)])
    assert batch.reports["a", SPOOL, 1].sent == 1


def test_every_durable_kind_is_taken() -> None:
    batch = reduce(
        [
            uplink("a", result(1)),
            uplink("a", Drift(n=2, **COMMON)),
            uplink("a", Recovery(n=3, state="entered", entry="e", **COMMON)),
            uplink("a", CommandResult(n=4, command="c", ok=True, **COMMON)),
        ]
    )
    kinds = {n: report.kind for (_, _, n), report in batch.reports.items()}
    assert kinds == {1: "update-result", 2: "drift", 3: "recovery", 4: "command-result"}


def test_json_and_messagepack_amount_to_the_same() -> None:
    as_json = Uplink(topic("a", "status"), codec.encode(status(3), codec.JSON), codec.JSON)
    assert heard(reduce([as_json])) == heard(reduce([uplink("a", status(3))])) == [(1, 3)]


def test_devices_behind_a_site_broker_are_the_same_devices() -> None:
    channel = next(channel for channel in SITE_UPLINKS if channel.name == "site-status")
    sited = Uplink(channel.topic("acme", id="a", site="north"), codec.encode(status(2)))
    assert heard(reduce([uplink("a", status(1)), sited])) == [(1, 1), (1, 2)]


def body(**fields: Any) -> bytes:
    return msgspec.msgpack.encode(fields)


@pytest.mark.parametrize(
    ("refused", "reason", "key"),
    [
        pytest.param(Uplink(topic("a", "status"), b""), "empty", None, id="empty"),
        pytest.param(Uplink(topic("a", "status"), b"junk"), "not_a_map", None, id="junk"),
        pytest.param(Uplink(topic("a", "status"), b"\x81\xa1"), "malformed", None, id="cut-short"),
        pytest.param(Uplink(topic("a", "status"), body(seq=1)), "invalid", None, id="fields-missing"),
        pytest.param(Uplink(topic("a", "status"), b"{" + b" " * 70_000), "too_large", None, id="too-large"),
        pytest.param(uplink("a", status(1, device_id="b")), "wrong_device", None, id="names-another-device"),
        pytest.param(
            uplink("a", result(4, device_id="b")), "wrong_device", (SPOOL, 4), id="report-for-another-device"
        ),
        pytest.param(
            Uplink(topic("a", "update-result"), body(spool=SPOOL, n=7, state="dancing")),
            "invalid",
            (SPOOL, 7),
            id="report-that-still-tells-its-number",
        ),
        pytest.param(
            Uplink(topic("a", "update-result"), body(spool="no", n=7)),
            "invalid",
            None,
            id="report-without-spool",
        ),
        pytest.param(
            Uplink(topic("a", "status"), body(spool=SPOOL, n=7)),
            "invalid",
            None,
            id="heartbeats-have-no-number",
        ),
        pytest.param(Uplink("acme/v1/devices/A/up/status", b"x"), "topic", None, id="device-id-in-capitals"),
        pytest.param(Uplink("acme/v1/devices/a/up/weather", b"x"), "topic", None, id="channel-there-is-not"),
        pytest.param(Uplink("acme/v1/devices/a/down/desired", b"x"), "topic", None, id="downlink"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(
    refused: Uplink, reason: str, key: tuple[str, int] | None
) -> None:
    """And the good ones beside it are taken."""
    batch = reduce([uplink("a", status(1)), refused, uplink("a", status(2))])
    (refusal,) = batch.refusals
    assert isinstance(refusal, Refusal)
    assert (refusal.arrival, refusal.reason, refusal.key) == (refused, reason, key)
    assert refusal.reason in REASONS
    assert heard(batch) == [(1, 1), (1, 2)]


@given(st.binary(max_size=200), st.sampled_from(["status", "presence", "drift", "update-result", "recovery"]))
def test_no_bytes_stop_a_batch(data: bytes, kind: str) -> None:
    batch = reduce([Uplink(topic("a", kind), data), uplink("b", status(1))])
    assert "b" in batch.beats


@pytest.mark.parametrize(
    ("known", "stored", "sent", "receipt"),
    [
        pytest.param(0, [], {1: 1}, 1, id="first-of-a-new-spool"),
        pytest.param(0, [], {1: 1, 2: 1, 3: 1}, 3, id="several-at-once"),
        pytest.param(5, [], {6: 1}, 6, id="next"),
        pytest.param(5, [], {3: 1}, 5, id="an-old-one-again"),
        pytest.param(5, [], {7: 1}, 5, id="gap-is-not-passed"),
        pytest.param(5, [7, 8], {6: 1}, 8, id="gap-closes"),
        pytest.param(5, [7], {8: 1}, 5, id="gap-stays-open"),
        pytest.param(0, [], {51: 1}, 0, id="new-spool-in-the-middle-waits-for-proof"),
        pytest.param(0, [51], {51: 1}, 51, id="sent-again-from-there-is-the-proof"),
        pytest.param(0, [51, 52], {51: 1, 52: 1, 53: 1}, 53, id="restored-hub-catches-up"),
        pytest.param(0, [], {51: 2, 52: 2}, 52, id="both-sendings-in-one-batch"),
        pytest.param(40, [51], {51: 1}, 51, id="hub-restored-from-an-older-backup"),
        pytest.param(0, [51], {51: 0}, 0, id="a-redelivery-by-the-broker-proves-nothing"),
        pytest.param(0, [51, 52], {52: 1}, 0, id="a-higher-one-again-proves-nothing"),
        pytest.param(0, [51], {1: 1, 51: 1}, 1, id="lower-ones-do-exist"),
    ],
)
def test_the_receipt_names_the_last_report_without_a_gap(
    known: int, stored: list[int], sent: dict[int, int], receipt: int
) -> None:
    assert contiguous(known, stored, sent) == receipt


@given(st.integers(0, 5), st.integers(1, 30), st.integers(0, 2**32))
def test_every_report_is_receipted_in_the_end_whatever_is_lost(base: int, count: int, seed: int) -> None:
    """A device sends all it holds, in order, until it has the receipt; any message may be lost on the way."""
    chance = random.Random(seed)
    holds = list(range(base + 1, base + count + 1))
    known, stored = 0, set[int]()
    for _ in range(200):
        sent = {n: 1 for n in holds if chance.random() < 0.7}
        if sent:
            known = contiguous(known, {n for n in stored if n > known}, sent)
            stored |= set(sent)
            holds = [n for n in holds if n > known]
        if not holds:
            break
    assert not holds


@pytest.mark.parametrize(
    ("devices", "sizes"),
    [
        pytest.param(10, [2 * PART + 1], id="many-heartbeats-of-few-devices-are-added-up-first"),
        pytest.param(PART, [2 * PART + 1], id="two-of-each"),
        pytest.param(2 * PART, [PART, PART, 1], id="one-of-each-goes-part-by-part"),
    ],
)
def test_a_batch_is_cut_when_nothing_is_gained_by_adding_it_up(devices: int, sizes: list[int]) -> None:
    arrivals = [beat(1, seq) for seq in range(2 * PART + 1)]
    cut = list(parts(arrivals, devices))
    assert [len(part) for part in cut] == sizes
    assert [arrival for part in cut for arrival in part] == arrivals
