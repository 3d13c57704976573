"""Ten thousand bodies that nobody can read, amid good ones: the good ones are in, the others counted by reason."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from hub.broker.commit import QUARANTINE_LIMIT
from hub.broker.ingest import Ingest, IngestSettings
from hub.broker.reduce import FIRST_BYTES
from hub.store import SqliteStore
from hub.telemetry import rollups, tiers
from hub.times import now_ms
from tests.support.mosquitto import FLEET, Broker, wait_until
from tests.support.raw import Raw, publish
from tests.support.uplinks import SPOOL, open_store, presence, result, rows, status, topic
from topics import codec
from topics.channels import UPLINK_LIMIT
from topics.errors import DecodeError
from topics.messages import UPLINK_TYPES, CommandResult, Drift, Message, Probes, Recovery, Running

SEED: Final = int(os.environ.get("FLAGHOIST_FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
DEVICES: Final = 10
GOOD: Final = 10_000
BAD: Final = 10_400
BAD_SPOOL: Final = "bad0bad0"
HEARTBEATS: Final = 4
"""Of five good messages this many are heartbeats, and one is an update result."""
COMMON: Final[dict[str, Any]] = {"boot": (1, "00000001"), "at": 1, "spool": BAD_SPOOL}


class Bad(NamedTuple):
    """A body for quarantine, and why it goes there."""

    kind: str
    body: bytes
    content_type: str | None
    reason: str


def pack(**fields: Any) -> bytes:
    return msgspec.msgpack.encode(fields)


def whole(**changes: Any) -> dict[str, Any]:
    """The fields of a heartbeat, with `changes`."""
    fields: dict[str, Any] = msgspec.to_builtins(
        status(1, probes=Probes(), running=Running(id="kiosk-7-abc", sequence=7))
    )
    return {**fields, **changes}


NAMED: Final = [
    (500, Bad("status", b"", None, "empty")),
    (200, Bad("update-result", b"\x00" * 50, None, "not_a_map")),
    (200, Bad("status", b"[1, 2]", None, "not_a_map")),
    (200, Bad("status", codec.encode(status(1), codec.JSON), codec.MSGPACK, "not_a_map")),
    (200, Bad("drift", b"\xde\xff\xff", None, "malformed")),
    (200, Bad("status", b'{"seq": NaN}', None, "malformed")),
    (50, Bad("status", b'{"deep": ' + b"[" * 5_000, None, "too_deep")),
    (50, Bad("recovery", b"\x81\xa1a" * 5_000, None, "too_deep")),
    (30, Bad("status", b"x" * (UPLINK_LIMIT + 1), None, "too_large")),
    (30, Bad("update-result", b"{" + b" " * UPLINK_LIMIT, None, "too_large")),
    (200, Bad("status", pack(**whole(seq=2**63)), None, "invalid")),
    (200, Bad("status", pack(**whole(seq=-1)), None, "invalid")),
    (200, Bad("status", pack(**whole(seq=True)), None, "invalid")),
    (200, Bad("status", pack(**whole(hardware="a\x00b")), None, "invalid")),
    (200, Bad("status", pack(**whole(probes={"cpu_load": float("nan")})), None, "invalid")),
    (200, Bad("status", pack(**whole(probes={"cpu_load": float("inf")})), None, "invalid")),
    (200, Bad("status", pack(**whole(failed=["kiosk-7-abc"] * 33)), None, "invalid")),
    (200, Bad("status", codec.encode(status(1, device_id="device-x")), None, "wrong_device")),
    (200, Bad("drift", codec.encode(Drift(n=5, device_id="device-x", **COMMON)), None, "wrong_device")),
    (200, Bad("presence", pack(state="online"), None, "invalid")),
]  # fmt: skip

STRANGE: Final[list[Any]] = [
    None, True, -1, 2**63, 2**64 - 1, 1e300, float("nan"), float("-inf"), "", "\x00", "x" * 2_000, "../..", b"\xff" * 9,
    [], {}, [[]] * 40, [None] * 300, {"a": {"b": {"c": []}}}, [1, 2, 3], "é" * 70, (1, "0" * 8, 3),
]  # fmt: skip

SOUND: Final[list[Message]] = [
    status(1, probes=Probes(temperature=3.0), running=Running(id="kiosk-7-abc", sequence=7)),
    presence(session=2),
    result(9, spool=BAD_SPOOL, phases={"downloading": 4}),
    Drift(n=9, **COMMON),
    Recovery(n=9, state="entered", entry="e", diagnostics={"disk": "full"}, **COMMON),
    CommandResult(n=9, command="c", ok=True, output={"log": "x"}, **COMMON),
]


def test_ten_thousand_malformed_bodies_stop_nothing_and_are_counted(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    print(f"seed {SEED} (FLAGHOIST_FUZZ_SEED)")
    names = [f"device-{number}" for number in range(DEVICES)]
    bad = _bad_bodies(chance)
    with Broker(tmp_path) as broker:
        store = open_store(tmp_path, *names)
        with _ingest(broker, store):
            pass  # so that the broker keeps what comes while nobody is there
        clean = _send_and_drain(broker, store, {name: _good(name, 0) for name in names})
        mixed = {name: _good(name, GOOD // DEVICES) for name in names}
        for one in bad:
            messages = mixed[chance.choice(names)]
            name = messages[0].topic.split("/")[-3]
            place = chance.randrange(len(messages) + 1)
            messages.insert(place, Raw(topic(name, one.kind), one.body, one.content_type))
        # A certificate of the fleet's CA opens the broker, and that is all that it does.
        mixed["stranger"] = [
            Raw(topic("stranger", m), codec.encode(m)) for n in range(1, 101) for m in (status(n), result(n))
        ]
        mixed["Not.An.Id"] = [
            Raw(topic("x", "status").replace("/x/", "/Not.An.Id/"), codec.encode(status(1)))
        ] * 100
        soiled = _send_and_drain(broker, store, mixed)
    print(f"good messages taken in: {clean:,.0f}/s alone, {soiled:,.0f}/s amid as many bad ones")
    expected = Counter(one.reason for one in bad) + Counter({"unknown_device": 200, "topic": 100})
    found = {
        row["reason"]: row["count"] for row in rows(store, "SELECT reason, count FROM quarantine_counts")
    }
    assert found == expected
    held = rows(store, "SELECT first_bytes, LENGTH(detail) AS words FROM quarantine")
    assert len(held) == QUARANTINE_LIMIT < expected.total()
    assert max(len(row["first_bytes"]) for row in held) == FIRST_BYTES
    for name in names:
        _judge_good(store, name)
    store.close()


def _bad_bodies(chance: random.Random) -> list[Bad]:
    bodies = [bad for times, bad in NAMED for _ in range(times)]
    while len(bodies) < BAD:
        message, content_type = chance.choice(SOUND), chance.choice([codec.JSON, codec.MSGPACK])
        kind = next(kind for kind, known in UPLINK_TYPES.items() if isinstance(message, known))
        body = chance.choice(MUTATIONS)(chance, codec.encode(message, content_type), content_type)
        told = chance.choice([content_type, None])
        reason = _reason(kind, body, told)
        if reason and (body or kind != "presence"):  # an empty presence is one that is cleared
            bodies.append(Bad(kind, body, told, reason))
    chance.shuffle(bodies)
    return bodies


def _reason(kind: str, body: bytes, content_type: str | None) -> str | None:
    """What the contract says; None for a body that is sound after all."""
    try:
        codec.decode(body, UPLINK_TYPES[kind], limit=UPLINK_LIMIT, content_type=content_type)
    except DecodeError as error:
        return error.reason
    return None


def _flip(chance: random.Random, body: bytes, _: str) -> bytes:
    data = bytearray(body)
    for _flips in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def _cut(chance: random.Random, body: bytes, _: str) -> bytes:
    return body[: chance.randrange(len(body))]


def _noise(chance: random.Random, body: bytes, _: str) -> bytes:
    return body[: chance.randrange(3)] + chance.randbytes(chance.randrange(200))


def _wrong_value(chance: random.Random, body: bytes, content_type: str) -> bytes:
    coder: Any = msgspec.json if content_type == codec.JSON else msgspec.msgpack
    fields = coder.decode(body)
    fields[chance.choice(list(fields))] = chance.choice(STRANGE)
    encoded: bytes = coder.encode(fields)
    return encoded


def _field_gone(chance: random.Random, body: bytes, content_type: str) -> bytes:
    coder: Any = msgspec.json if content_type == codec.JSON else msgspec.msgpack
    fields = coder.decode(body)
    del fields[chance.choice(list(fields))]
    encoded: bytes = coder.encode(fields)
    return encoded


MUTATIONS: Final[list[Callable[[random.Random, bytes, str], bytes]]] = [
    _flip, _cut, _noise, _wrong_value, _field_gone,
]  # fmt: skip


def _good(name: str, first: int) -> list[Raw]:
    """Heartbeats and update results of one device, in both formats, numbered from `first` on."""
    return [*_numbered(name, first)]


def _numbered(name: str, first: int) -> Iterator[Raw]:
    for number in range(first, first + GOOD // DEVICES):
        group, place = divmod(number, HEARTBEATS + 1)
        content_type = codec.JSON if number % 2 else codec.MSGPACK
        message: Message
        if place == HEARTBEATS:
            message = result(group + 1, release=f"kiosk-{group + 1}-abc")
        else:
            message = status(group * HEARTBEATS + place + 1, at=now_ms() // 1000)
        yield Raw(topic(name, message), codec.encode(message, content_type), content_type)


@contextmanager
def _ingest(broker: Broker, store: SqliteStore) -> Iterator[Ingest]:
    """An ingest slot, from its subscription on."""
    settings = IngestSettings(FLEET, broker.service_port)
    slot = Ingest(store, settings, broker.service_files(settings.name), now=now_ms)
    slot.start()
    try:
        wait_until(lambda: slot.connections, what="the subscription")
        yield slot
    finally:
        slot.stop()


def _send_and_drain(broker: Broker, store: SqliteStore, messages: dict[str, list[Raw]]) -> float:
    """Queue `messages` of each device in the broker, then take them in; returns good ones a second."""
    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(lambda item: publish(broker, *item), messages.items())
        assert sum(answers, Counter[int]()) == {0: sum(map(len, messages.values()))}
    began = time.monotonic()
    with _ingest(broker, store) as slot:
        wait_until(lambda: slot.taken == sum(map(len, messages.values())), what="the last message")
        seconds = time.monotonic() - began
        assert (slot.connections, slot.problem) == (1, "")
    return GOOD / seconds


def _judge_good(store: SqliteStore, name: str) -> None:
    count = 2 * GOOD // DEVICES
    results = count // (HEARTBEATS + 1)
    found = rows(
        store,
        "SELECT n, release_id FROM reports JOIN devices ON devices.key = device_key "
        "WHERE device_id = :name AND spool = :spool ORDER BY n",
        name=name,
        spool=SPOOL,
    )
    assert [(row["n"], row["release_id"]) for row in found] == [
        (n, f"kiosk-{n}-abc") for n in range(1, results + 1)
    ]
    (latest,) = rows(
        store,
        "SELECT device_key, seq, rollup FROM device_latest JOIN devices ON devices.key = device_key "
        "WHERE device_id = :name",
        name=name,
    )
    key = latest["device_key"]
    closed = rows(store, "SELECT * FROM rollups_5m WHERE device_key = :key", key=key)
    counted = sum(tiers.bucket_of(row).count for row in closed) + rollups.unpack(latest["rollup"]).five.count
    assert (latest["seq"], counted) == (count - results, count - results)
