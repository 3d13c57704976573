"""Writing heartbeats: the newest becomes the device's latest row, and each counts once in the rollups.

The row is read and written in one transaction that holds the write lock from its start, so what was read still
stands when it is written, whichever slot wrote last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from hub.broker import copies, restarts, restored
from hub.broker.arrivals import Uplink
from hub.broker.beats import Beats
from hub.broker.devices import Device
from hub.broker.reduce import PART, Batch, heartbeats_of
from hub.store import Tx
from hub.telemetry import rollups, tiers
from hub.telemetry.buckets import Bucket
from hub.telemetry.rollups import Passed
from topics.messages import Status

_CHUNK: Final = PART
_ROWS: Final = 50
"""Rows of one statement; one at a time costs a fifth more."""


@dataclass(slots=True)
class _Rows:
    """What is to be written."""

    newer: list[tuple[object, ...]] = field(default_factory=list)
    counted: list[tuple[bytes, int]] = field(default_factory=list)
    fives: list[tuple[int, Bucket]] = field(default_factory=list)
    hours: list[tuple[int, Bucket]] = field(default_factory=list)

    def pass_on(self, key: int, passed: Passed) -> None:
        """Add what goes to the tiers."""
        self.fives += [(key, bucket) for bucket in passed.fives]
        self.hours += [(key, bucket) for bucket in passed.hours]


_LatestRow = tuple[int, int, int, bytes | None]
"""Key, boot counter, seq and rollup of a latest row."""
_Latest = dict[int, _LatestRow]


def put(tx: Tx, batch: Batch, devices: Mapping[str, Device], now: int) -> None:
    """Take in the heartbeats of those of `devices` (by id) that are in `batch`. `now` is in ms."""
    heard = [
        (device.key, beats)
        for device_id, beats in batch.beats.items()
        if (device := devices.get(device_id)) is not None
    ]
    restarts.put(tx, heard, now)
    known = _known(tx, [key for key, _ in heard])
    rows = _Rows()
    add_row, added, turned, of = rows.newer.append, rollups.added, rollups.turned, known.get
    again: set[int] = set()
    for key, beats in heard:
        row = of(key)
        newest = beats.newest
        packed = None
        if row is not None and beats.sums is None and beats.first == row[2] + 1 and newest.boot[0] == row[1]:
            # Of a large fleet nearly all: just one heartbeat, and it is the next.
            state = row[3]
            if state and beats.in_order:
                packed = added(state, newest, beats.now_s)
                if packed is None and (turn := turned(state, newest, beats.now_s)) is not None:
                    packed, closed = turn
                    rows.fives.append((key, closed))
        if packed is None:
            packed = _added_up(rows, key, beats, row)
        if packed is None:
            again.add(key)
        else:
            add_row(_row(key, newest, beats.arrival, now, packed))
    if again:
        ids = {device_id: key for device_id in batch.beats
               if (device := devices.get(device_id)) and (key := device.key) in again}  # fmt: skip
        _one_by_one(tx, rows, batch, ids, known, now)
    _write(tx, rows, now)


def _added_up(rows: _Rows, key: int, beats: Beats, row: _LatestRow | None) -> bytes | None:
    """Return a device's state with `beats`; None when they must be judged one by one."""
    newest = beats.newest
    state = rollups.unpack(row[3] if row else None)
    latest = (row[1], row[2]) if row else None
    if not (beats.in_order and rollups.is_run(state, latest, newest.boot[0], beats.first)):
        return None
    passed = Passed([], [])
    if beats.sums is None:
        rollups.take(state, newest, beats.now_s, passed)
    else:
        for five in beats.sums:
            rollups.take_sum(state, five, passed)
    if passed.fives:
        rows.pass_on(key, passed)
    return rollups.pack(state)


def _one_by_one(tx: Tx, rows: _Rows, batch: Batch, keys: Mapping[str, int], known: _Latest, now: int) -> None:
    """Judge heartbeats that came twice, late or out of order, each by its number."""
    for device_id, beats in heartbeats_of(batch, keys.keys()).items():
        key = keys[device_id]
        are_two = copies.tell(tx, device_id, key, [status.boot for status, _ in beats], now)
        row = known.get(key)
        latest = (row[1], row[2]) if row else None
        start = (
            None if are_two else restored.begin_anew(tx, device_id, key, [status for status, _ in beats], now)
        )
        if start is not None:
            beats, latest = [beat for beat in beats if beat[0].boot == start], None
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
        int(status.safe_mode),
        arrival.payload,
        packed,
    )


def _write(tx: Tx, rows: _Rows, now: int) -> None:
    whole = len(rows.newer) // _ROWS * _ROWS
    for start in range(0, whole, _ROWS):
        tx.execute(_PUT_LATEST_ROWS, [*chain.from_iterable(rows.newer[start : start + _ROWS])])
    if rows.newer[whole:]:
        tx.executemany(_PUT_LATEST, rows.newer[whole:])
    if rows.counted:
        tx.executemany("UPDATE device_latest SET rollup = ? WHERE device_key = ?", rows.counted)
    if rows.fives:
        tiers.add_fives(tx, rows.fives, now // 1000)
    if rows.hours:
        tiers.add_hours(tx, rows.hours)


def _known(tx: Tx, keys: list[int]) -> _Latest:
    found: _Latest = {}
    keys.sort()
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        # Filled up to one length, so that the statement is prepared once.
        chunk += chunk[-1:] * (_CHUNK - len(chunk)) if len(keys) > 1 else []
        for row in tx.tuples(_LATEST if len(chunk) > 1 else _LATEST_ONE, chunk):
            found[row[0]] = row
    return found


_LATEST_ONE: Final = "SELECT device_key, boot, seq, rollup FROM device_latest WHERE device_key = ?"
_LATEST: Final = (
    "SELECT device_key, boot, seq, rollup FROM device_latest WHERE device_key IN "  # noqa: S608  (marks only)
    f"({', '.join('?' * _CHUNK)})"
)


def _put_latest(rows: int) -> str:
    values = ", ".join([f"({', '.join('?' * len(_COLUMNS))})"] * rows)
    changes = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS[1:])
    return (
        f"INSERT INTO device_latest ({', '.join(_COLUMNS)}) VALUES {values} "  # noqa: S608  (our own constants)
        f"ON CONFLICT (device_key) DO UPDATE SET {changes}"
    )


_COLUMNS: Final = (
    "device_key", "boot", "boot_id", "seq", "at", "received_at", "health", "running", "running_sequence",
    "agent_version", "safe_mode", "body", "rollup",
)  # fmt: skip
"""In the order of `_row`."""
_PUT_LATEST: Final = _put_latest(1)
_PUT_LATEST_ROWS: Final = _put_latest(_ROWS)
