"""Writing heartbeats: the newest becomes the device's latest row, and each counts once in the rollups.

The row is read and written in one transaction that holds the write lock from its start, so what was read still
stands when it is written, whichever slot wrote last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hub.broker.arrivals import Uplink
from hub.broker.devices import Device
from hub.broker.reduce import Batch, heartbeats_of
from hub.store import Row, Tx
from hub.telemetry import rollups, tiers
from hub.telemetry.rollups import Bucket, Passed
from topics.messages import Status

_CHUNK: Final = 400


@dataclass(slots=True)
class _Rows:
    """What is to be written."""

    newer: list[tuple[object, ...]] = field(default_factory=list)
    counted: list[tuple[bytes, int]] = field(default_factory=list)
    fives: list[tuple[int, Bucket]] = field(default_factory=list)
    hours: list[tuple[int, Bucket]] = field(default_factory=list)

    def pass_on(self, key: int, passed: Passed) -> None:
        """Move what goes to the tiers here."""
        self.fives += [(key, bucket) for bucket in passed.fives]
        self.hours += [(key, bucket) for bucket in passed.hours]
        passed.fives.clear()
        passed.hours.clear()


def put(tx: Tx, batch: Batch, devices: Mapping[str, Device], now: int) -> None:
    """Take in the heartbeats of those of `devices` (by id) that are in `batch`. `now` is in ms."""
    keys = [devices[device_id].key for device_id in batch.beats if device_id in devices]
    known = _known(tx, keys)
    rows = _Rows()
    add_row = rows.newer.append
    passed = Passed([], [])
    again: dict[str, int] = {}
    for device_id, beats in batch.beats.items():
        device = devices.get(device_id)
        if device is None:
            continue
        key = device.key
        row = known.get(key)
        if row is None:
            latest, state = None, rollups.unpack(None)
        else:
            _, boot, seq, packed = row
            latest, state = (boot, seq), rollups.unpack(packed)
        status = beats.newest
        if not (beats.in_order and rollups.is_run(state, latest, status.boot[0], beats.first)):
            again[device_id] = key
            continue
        if beats.sums is None:
            rollups.take(state, status, beats.now_s, passed)
        else:
            for five in beats.sums:
                rollups.take_sum(state, five, passed)
        if passed.fives:
            rows.pass_on(key, passed)
        add_row(_row(key, status, beats.arrival, now, rollups.pack(state)))
    if again:
        _one_by_one(rows, heartbeats_of(batch, again), again, known, now)
    _write(tx, rows, now)


def _one_by_one(
    rows: _Rows,
    heard: Mapping[str, list[tuple[Status, Uplink]]],
    keys: Mapping[str, int],
    known: Mapping[int, Row],
    now: int,
) -> None:
    """Judge heartbeats that came twice, late or out of order, each by its number."""
    for device_id, beats in heard.items():
        key = keys[device_id]
        row = known.get(key)
        latest = (row[1], row[2]) if row else None
        state = rollups.unpack(row[3] if row else None)
        changed, passed = rollups.count(state, latest, [status for status, _ in beats], now // 1000)
        if not changed:
            continue
        rows.pass_on(key, passed)
        status, arrival = max(beats, key=lambda beat: (beat[0].boot[0], beat[0].seq))
        if latest is None or (status.boot[0], status.seq) > latest:
            rows.newer.append(_row(key, status, arrival, now, rollups.pack(state)))
        else:
            rows.counted.append((rollups.pack(state), key))


def _row(key: int, status: Status, arrival: Uplink, now: int, packed: bytes) -> tuple[object, ...]:
    running = status.running
    return (
        key,
        status.boot[0],
        status.boot[1],
        status.seq,
        status.at * 1000,
        now,
        status.health,
        running.id if running else None,
        running.sequence if running else 0,
        status.agent_version,
        arrival.payload,
        packed,
    )


def _write(tx: Tx, rows: _Rows, now: int) -> None:
    if rows.newer:
        tx.executemany(_PUT_LATEST, rows.newer)
    if rows.counted:
        tx.executemany("UPDATE device_latest SET rollup = ? WHERE device_key = ?", rows.counted)
    if rows.fives:
        tiers.add_fives(tx, rows.fives, now // 1000)
    if rows.hours:
        tiers.add_hours(tx, rows.hours)


def _known(tx: Tx, keys: list[int]) -> dict[int, Row]:
    found: dict[int, Row] = {}
    keys.sort()
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        # Filled up to one length, so that the statement is prepared once.
        chunk += chunk[-1:] * (_CHUNK - len(chunk)) if len(keys) > 1 else []
        for row in tx.all(_LATEST if len(chunk) > 1 else _LATEST_ONE, chunk):
            found[row[0]] = row
    return found


_LATEST_ONE: Final = "SELECT device_key, boot, seq, rollup FROM device_latest WHERE device_key = ?"
_LATEST: Final = (
    "SELECT device_key, boot, seq, rollup FROM device_latest WHERE device_key IN "  # noqa: S608  (marks only)
    f"({', '.join('?' * _CHUNK)})"
)
_PUT_LATEST: Final = """
INSERT INTO device_latest (device_key, boot, boot_id, seq, at, received_at, health, running, running_sequence,
    agent_version, body, rollup)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (device_key) DO UPDATE SET boot = excluded.boot, boot_id = excluded.boot_id, seq = excluded.seq,
    at = excluded.at, received_at = excluded.received_at, health = excluded.health, running = excluded.running,
    running_sequence = excluded.running_sequence, agent_version = excluded.agent_version, body = excluded.body,
    rollup = excluded.rollup
"""
