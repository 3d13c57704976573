"""Reports over HTTP: the same judging, storing and counting once as over MQTT, and the receipt as the answer."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from hub.broker import commit
from hub.broker.reduce import Uplink, reduce
from hub.store import StoreBusy
from tests.hub.world import World
from tests.support.uplinks import SPOOL, presence, result, rows, status
from tests.topics import kit
from topics import codec, devicetoken
from topics.channels import BY_NAME, UPLINK_LIMIT
from topics.heard import HEADER, fingerprint
from topics.messages import CommandResult, Drift, DriftItem, Log, LogLine, Message, Probes, Receipt, Recovery

BOOT = (1, "00000001")
DURABLE: dict[str, Any] = {"boot": BOOT, "at": 1000, "spool": SPOOL, "n": 1}
REPORTS = [
    pytest.param("update-results", result(1), id="update result"),
    pytest.param("drift", Drift(**DURABLE, items=[DriftItem(path="/etc/x", what="hash")]), id="drift"),
    pytest.param("recovery", Recovery(**DURABLE, state="entered", entry="e1"), id="recovery"),
    pytest.param("command-results", CommandResult(**DURABLE, command="c1", ok=True), id="command result"),
]


_NUMBERS = map(str, itertools.count())
"""Each post has a token of its own."""


def headers(world: World, device_id: str, content_type: str | None = codec.MSGPACK) -> dict[str, str]:
    now = world.now // 1000
    claims = devicetoken.Claims(device_id, devicetoken.audience(kit.FLEET), now, now + 60, next(_NUMBERS))
    token = devicetoken.make(kit.key(device_id), claims)
    return {"Authorization": f"Bearer {token}"} | ({"Content-Type": content_type} if content_type else {})


def post(world: World, device_id: str, path: str, message: Message | bytes, kind: str = codec.MSGPACK) -> Any:
    body = message if isinstance(message, bytes) else codec.encode(message, kind)
    return world.client.post(f"/telemetry/{path}", content=body, headers=headers(world, device_id, kind))


def stored(world: World, table: str, device_id: str) -> list[dict[str, Any]]:
    found = rows(
        world.store,
        f"SELECT {table}.* FROM {table} JOIN devices ON devices.key = device_key WHERE device_id = :id",
        id=device_id,
    )
    return [{name: value for name, value in row.items() if name != "device_key"} for row in found]


@pytest.mark.parametrize("kind", [codec.MSGPACK, codec.JSON])
@pytest.mark.parametrize(("path", "message"), REPORTS)
def test_a_durable_report_is_stored_and_answered_with_the_receipt(
    world: World, path: str, message: Message, kind: str
) -> None:
    world.device("shop-1")
    answer = post(world, "shop-1", path, message, kind)
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert codec.decode(answer.content, Receipt, limit=1000, content_type=kind) == Receipt(spool=SPOOL, n=1)
    assert len(stored(world, "reports", "shop-1")) == 1
    assert (world.intake.taken, world.intake.refused) == (1, 0)


def test_a_heartbeat_is_taken_in_and_needs_no_answer(world: World) -> None:
    world.device("shop-1")
    message = status(1, at=world.now // 1000, health="degraded", probes=Probes(disk_used=0.5))
    answer = post(world, "shop-1", "status", message)
    assert (answer.status_code, answer.content) == (204, b"")
    shown = world.client.get("/devices/shop-1").json()
    assert (shown["presence"], shown["health"], shown["probes"]["disk_used"]) == ("online", "degraded", 0.5)


def test_the_answer_to_a_heartbeat_tells_whether_there_is_anything_new_to_ask_for(world: World) -> None:
    """A word that the device can make out of what it has heard itself."""
    world.device("shop-1")
    seq = itertools.count(1)

    def told(device_id: str = "shop-1") -> str:
        return str(post(world, device_id, "status", status(next(seq))).headers[HEADER])

    def heard(root: int, segment: str) -> str:
        paths = (f"/manifests/kiosk/{segment}", "/devices/shop-1/desired")
        return fingerprint(root, *(world.client.get(path).content for path in paths))

    assert told() == told() == heard(1, "canary")
    world.client.patch("/devices/shop-1", json={"maintenance": True})
    assert told() == heard(1, "canary")
    world.client.patch("/devices/shop-1", json={"segment": "early"})
    assert told() == heard(1, "early")
    assert world.client.post("/trust/roots", content=kit.signed_root(2)).status_code == 201
    assert told() == heard(2, "early")
    world.device("shop-2", "early")
    assert told("shop-2") != told(), "each has its own desired state"
    assert HEADER not in post(world, "shop-1", "status", b"\x80").headers, "nothing was taken in"


def test_presence_is_shown_with_the_next_wake_and_an_older_one_changes_nothing(world: World) -> None:
    world.device("shop-1")
    wake = world.now // 1000 + 86_400
    for message in (
        presence("online", 2, at=1000),
        presence("sleeping", 2, at=1001, next_wake=wake),
        presence("offline", 1),  # the will of a connection over MQTT before
    ):
        answer = post(world, "shop-1", "presence", message)
        assert (answer.status_code, answer.content) == (204, b"")
    world.now += 80_000_000
    assert world.client.get("/devices/shop-1").json()["presence"] == "sleeping"
    (row,) = stored(world, "presence", "shop-1")
    assert (row["session"], row["next_wake"]) == (2, wake)
    assert [row["state"] for row in stored(world, "presence_log", "shop-1")] == ["online", "sleeping"]


def test_log_lines_go_to_the_sinks_and_what_is_none_goes_to_quarantine(world: World) -> None:
    world.device("shop-1")
    body = codec.encode(Log(boot=BOOT, at=1000, lines=[LogLine(at=1000, text="it rains in")]))
    answer = post(world, "shop-1", "logs", body)
    assert (answer.status_code, answer.content) == (204, b"")
    assert post(world, "shop-1", "logs", b"{}", codec.JSON).status_code == 422
    (arrival,) = world.arrived
    assert (arrival.topic, arrival.payload) == (f"{kit.FLEET}/v1/devices/shop-1/up/log", body)
    assert rows(world.store, "SELECT reason, count FROM quarantine_counts") == [
        {"reason": "invalid", "count": 1}
    ]


def test_both_ways_leave_the_same_in_the_store(world: World) -> None:
    """Heartbeats with a repetition and a late one, an update from its first step to its last, something unreadable."""
    now = world.now // 1000
    beats = [status(seq, at=now + 60 * seq, health="failing" if seq == 2 else "ok") for seq in (1, 3, 3, 2)]
    updates = [result(n, state) for n, state in enumerate(("downloading", "probation", "committed"), 1)]
    for device_id in ("over-http", "over-mqtt"):
        world.device(device_id)
    for kind, path, messages in (("status", "status", beats), ("update-result", "update-results", updates)):
        for message in [codec.encode(each) for each in messages] + [b"\xc1"]:
            post(world, "over-http", path, message)
            arrival = Uplink(BY_NAME[kind].topic(kit.FLEET, id="over-mqtt"), message, codec.MSGPACK)
            with world.store.write() as tx:
                commit.apply(tx, reduce([arrival], None, now), world.now)
    for table in ("device_latest", "reports", "spools", "attempts"):
        assert stored(world, table, "over-http") == stored(world, table, "over-mqtt") != []
    quarantined = rows(world.store, "SELECT topic, reason, first_bytes FROM quarantine ORDER BY id")
    assert [(row["topic"].split("/")[3], row["reason"]) for row in quarantined] == [
        ("over-http", "not_a_map"),
        ("over-mqtt", "not_a_map"),
    ] * 2


def test_a_report_that_came_over_mqtt_is_no_news_over_http(world: World) -> None:
    world.device("shop-1")
    world.uplink("shop-1", result(1, "committed"))
    before = stored(world, "reports", "shop-1")
    world.now += 1000
    answer = post(world, "shop-1", "update-results", result(1, "committed"))
    assert msgspec.msgpack.decode(answer.content) == {"spool": SPOOL, "n": 1}
    assert stored(world, "reports", "shop-1") == before


def test_the_receipt_names_the_highest_number_without_a_gap(world: World) -> None:
    world.device("shop-1")
    numbers = [
        msgspec.msgpack.decode(post(world, "shop-1", "update-results", result(n)).content)["n"]
        for n in (1, 3, 2, 4)
    ]
    assert numbers == [1, 1, 3, 4]


@pytest.mark.parametrize(
    ("body", "kind", "rule"),
    [
        pytest.param(b"", codec.JSON, "empty", id="nothing"),
        pytest.param(b"[1]", codec.JSON, "not_a_map", id="a list"),
        pytest.param(b"{", codec.JSON, "malformed", id="cut short"),
        pytest.param(b'{"boot":[1,"00000001"]}', codec.JSON, "invalid", id="fields missing"),
        pytest.param(codec.encode(result(1), codec.JSON), codec.MSGPACK, "not_a_map", id="JSON called MessagePack"),
        pytest.param(codec.encode(result(1)), codec.JSON, "not_a_map", id="MessagePack called JSON"),
        pytest.param(codec.encode(result(1, device_id="shop-2")), codec.MSGPACK, "wrong_device", id="of another"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_in_is_refused_with_the_reason_and_kept_in_quarantine(
    world: World, body: bytes, kind: str, rule: str
) -> None:
    world.device("shop-1")
    world.device("shop-2")
    answer = post(world, "shop-1", "update-results", body, kind)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["rule"] == rule
    assert rows(world.store, "SELECT reason, count FROM quarantine_counts") == [{"reason": rule, "count": 1}]
    assert (world.intake.taken, world.intake.refused) == (0, 1)
    assert stored(world, "attempts", "shop-1") == stored(world, "reports", "shop-2") == []


def test_a_report_in_quarantine_is_receipted_so_that_it_is_not_sent_for_ever(world: World) -> None:
    world.device("shop-1")
    body = msgspec.json.encode({"spool": SPOOL, "n": 1, "state": "sideways"})
    answer = post(world, "shop-1", "update-results", body, codec.JSON)
    assert (answer.status_code, answer.json()["receipt"]) == (422, {"spool": SPOOL, "n": 1})
    after = post(world, "shop-1", "update-results", result(2))
    assert msgspec.msgpack.decode(after.content) == {"spool": SPOOL, "n": 2}


@pytest.mark.parametrize(
    "content_type",
    [
        pytest.param(None, id="none said"),
        pytest.param("application/octet-stream", id="one that says nothing"),
        pytest.param("Application/JSON; charset=utf-8", id="with a parameter"),
    ],
)
def test_the_format_is_found_out_as_over_mqtt(world: World, content_type: str | None) -> None:
    world.device("shop-1")
    answer = world.client.post(
        "/telemetry/update-results",
        content=codec.encode(result(1), codec.JSON),
        headers=headers(world, "shop-1", content_type),
    )
    assert (answer.status_code, answer.json()) == (200, {"spool": SPOOL, "n": 1})


@pytest.mark.parametrize(
    "path", ["status", "drift", "update-results", "recovery", "command-results", "presence", "logs"]
)
def test_a_body_over_the_cap_is_not_read(world: World, path: str) -> None:
    world.device("shop-1")
    answer = post(world, "shop-1", path, b"\x80" * (UPLINK_LIMIT + 1))
    assert answer.status_code == 413
    assert rows(world.store, "SELECT * FROM quarantine_counts") == []


def test_only_devices_report(world: World) -> None:
    answer = world.client.post("/telemetry/status", content=codec.encode(status(1)))
    assert (answer.status_code, answer.json()["rule"]) == (403, "device_only")


def test_a_revoked_device_reports_no_more(world: World) -> None:
    world.device("shop-1")
    world.client.post("/devices/shop-1/revoke")
    assert post(world, "shop-1", "status", status(1)).status_code == 401


def test_a_store_that_refuses_is_told_and_nothing_is_handed_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.device("shop-1")

    def refuse() -> None:
        raise StoreBusy("locked")

    monkeypatch.setattr(world.store, "write", refuse)
    answer = post(world, "shop-1", "update-results", result(1))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert world.arrived == []


def test_what_was_stored_is_handed_to_the_sinks_as_it_came(world: World) -> None:
    world.device("shop-1")
    body = codec.encode(result(1), codec.JSON)
    post(world, "shop-1", "update-results", body, codec.JSON)
    (arrival,) = world.arrived
    assert (arrival.topic, arrival.payload) == (
        f"{kit.FLEET}/v1/devices/shop-1/up/update-result",
        body,
    )
