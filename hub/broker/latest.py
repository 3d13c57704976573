"""Writing heartbeats: the newest becomes the device's latest row, and each counts once in the rollups.

The row is read and written in one transaction that holds the write lock from its start, so what was read still
stands when it is written, whichever slot wrote last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hub.broker.devices import Device
from hub.broker.reduce import Beat
from hub.store import Row, Tx
from hub.telemetry import rollups, tiers
from hub.telemetry.rollups import Bucket

_CHUNK: Final = 400


def put(tx: Tx, beats: Mapping[str, list[Beat]], devices: Mapping[str, Device], now: int) -> None:
    """Take in `beats` by device id, all of which are among `devices`. `now` is in ms."""
    known = _rows(tx, [devices[device_id].key for device_id in beats])
    now_s = now // 1000
    newer: list[tuple[object, ...]] = []
    counted: list[tuple[bytes, int]] = []
    fives: list[tuple[int, Bucket]] = []
    hours: list[tuple[int, Bucket]] = []
    for device_id, heard in beats.items():
        key = devices[device_id].key
        row = known.get(key)
        latest = (row[1], row[2]) if row else None
        state = rollups.unpack(row[3] if row else None)
        changed, passed = rollups.count(state, latest, [status for status, _ in heard], now_s)
        if not changed:
            continue
        if passed.fives:
            fives += [(key, bucket) for bucket in passed.fives]
            hours += [(key, bucket) for bucket in passed.hours]
        packed = rollups.pack(state)
        status, arrival = heard[0] if len(heard) == 1 else max(heard, key=_order)
        if latest is None or (status.boot[0], status.seq) > latest:
            running = status.running
            newer.append(
                (
                    key,
                    *status.boot,
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
            )
        else:
            counted.append((packed, key))
    if newer:
        tx.executemany(_PUT_LATEST, newer)
    if counted:
        tx.executemany("UPDATE device_latest SET rollup = ? WHERE device_key = ?", counted)
    if fives:
        tiers.add_fives(tx, fives, now_s)
    if hours:
        tiers.add_hours(tx, hours)


def _order(beat: Beat) -> tuple[int, int]:
    status = beat[0]
    return status.boot[0], status.seq


def _rows(tx: Tx, keys: list[int]) -> dict[int, Row]:
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
