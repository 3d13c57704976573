"""Writing a batch: one transaction, after which everything in it may be acknowledged.

Every statement can meet the same message twice, or an older one after a newer one, and leaves the row right.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, NamedTuple

from hub.broker.reduce import FIRST_BYTES, RANKS, Batch, Refusal, Report, Uplink, contiguous, release_of
from hub.store import Tx
from topics.messages import Presence, Status, UpdateResult

QUARANTINE_LIMIT: Final = 10_000
"""Messages kept for people to look at; beyond it they are only counted."""
_CHUNK: Final = 400
_ABOVE_GAP: Final = 10_000
_TEXT: Final = 500


class Outcome(NamedTuple):
    """What a committed batch changed. `receipts` maps (device id, spool) to the highest contiguous n."""

    devices: frozenset[str]
    releases: frozenset[str]
    receipts: dict[tuple[str, str], int]
    refused: int


class _Device(NamedTuple):
    key: int
    segment: str


def apply(tx: Tx, batch: Batch, now: int) -> Outcome:
    """Write `batch`, received at `now` (ms)."""
    devices, revoked = _devices(tx, batch.devices)
    refusals = list(batch.refusals)

    def known(device_id: str, uplink: Uplink) -> _Device | None:
        device = devices.get(device_id)
        if device is None:
            reason = "revoked" if device_id in revoked else "unknown_device"
            refusals.append(Refusal(uplink, reason, f"{device_id} is not a device of this hub"))
        return device

    statuses = [
        _status_row(device, status, uplink, now)
        for device_id, (status, uplink) in batch.statuses.items()
        if (device := known(device_id, uplink))
    ]
    presences = [
        _presence_row(device, presence, now)
        for device_id, (presence, uplink) in batch.presences.items()
        if (device := known(device_id, uplink))
    ]
    reports = {
        key: (device, report)
        for key, report in batch.reports.items()
        if (device := known(key[0], report.uplink))
    }
    for refusal in batch.refusals:
        if refusal.device_id and refusal.key and (device := devices.get(refusal.device_id)):
            # Holds the number of what is in quarantine, so that the device's later reports can be receipted.
            stub = Report(refusal.kind, refusal.uplink, None, int(not refusal.uplink.again))
            reports.setdefault((refusal.device_id, *refusal.key), (device, stub))
    if statuses:
        tx.executemany(_PUT_STATUS, statuses)
    if presences:
        tx.executemany(_PUT_PRESENCE, presences)
    receipts = _put_reports(tx, reports, now)
    releases = _put_attempts(tx, reports, now)
    quarantine(tx, refusals, now)
    changed = {device_id for device_id in batch.devices if device_id in devices}
    return Outcome(frozenset(changed), releases, receipts, len(refusals))


def quarantine(tx: Tx, refusals: list[Refusal], now: int) -> None:
    """Count `refusals` and keep them while there is room."""
    if not refusals:
        return
    tx.executemany(
        "INSERT INTO quarantine_counts (reason, count) VALUES (:reason, :count) "
        "ON CONFLICT (reason) DO UPDATE SET count = quarantine_counts.count + excluded.count",
        [
            {"reason": reason, "count": count}
            for reason, count in Counter(refusal.reason for refusal in refusals).items()
        ],
    )
    held = tx.one("SELECT COUNT(*) AS rows FROM quarantine")
    room = max(0, QUARANTINE_LIMIT - (held["rows"] if held else 0))
    tx.executemany(
        "INSERT INTO quarantine (topic, reason, detail, first_bytes, size, received_at) "
        "VALUES (:topic, :reason, :detail, :first_bytes, :size, :now)",
        [
            {
                "topic": refusal.uplink.topic[:_TEXT],
                "reason": refusal.reason,
                "detail": refusal.detail[:_TEXT],
                "first_bytes": refusal.uplink.body[:FIRST_BYTES],
                "size": len(refusal.uplink.body),
                "now": now,
            }
            for refusal in refusals[:room]
        ],
    )


def _devices(tx: Tx, ids: set[str]) -> tuple[dict[str, _Device], set[str]]:
    """Return the devices among `ids`, and which of the ids were revoked. Never cached: a key may go to another."""
    found: dict[str, _Device] = {}
    revoked = set()
    ordered = sorted(ids)
    for start in range(0, len(ordered), _CHUNK):
        chunk = ordered[start : start + _CHUNK]
        # Filled up to one length, so that the statement is prepared once.
        chunk += chunk[-1:] * (_CHUNK - len(chunk)) if len(ordered) > 1 else []
        rows = tx.all(
            _DEVICES if len(chunk) > 1 else _DEVICE, {f"id{i}": name for i, name in enumerate(chunk)}
        )
        for row in rows:
            if row["revoked_at"] is None:
                found[row["device_id"]] = _Device(row["key"], row["segment"])
            else:
                revoked.add(row["device_id"])
    return found, revoked


def _status_row(device: _Device, status: Status, uplink: Uplink, now: int) -> dict[str, Any]:
    return {
        "device_key": device.key,
        "boot": status.boot[0],
        "boot_id": status.boot[1],
        "seq": status.seq,
        "at": status.at * 1000,
        "now": now,
        "health": status.health,
        "running": status.running.id if status.running else None,
        "running_sequence": status.running.sequence if status.running else 0,
        "agent_version": status.agent_version,
        "body": uplink.body,
    }


def _presence_row(device: _Device, presence: Presence, now: int) -> dict[str, Any]:
    return {
        "device_key": device.key,
        "boot": presence.boot[0],
        "session": presence.session,
        "state": presence.state,
        "at": presence.at * 1000,
        "next_wake": presence.next_wake,
        "now": now,
    }


_Reports = dict[tuple[str, str, int], tuple[_Device, Report]]


def _put_reports(tx: Tx, reports: _Reports, now: int) -> dict[tuple[str, str], int]:
    spools: dict[tuple[str, str], dict[int, int]] = {}
    for (device_id, spool, n), (_, report) in reports.items():
        spools.setdefault((device_id, spool), {})[n] = report.sent
    receipts, moved = {}, []
    for (device_id, spool), sent in spools.items():
        key = reports[device_id, spool, next(iter(sent))][0].key
        where = {"device_key": key, "spool": spool}
        row = tx.one(_CONTIGUOUS, where)
        before = row["contiguous"] if row else 0
        stored = {row["n"] for row in tx.all(_ABOVE, {**where, "n": before, "limit": _ABOVE_GAP})}
        reached = receipts[device_id, spool] = contiguous(before, stored, sent)
        if reached > before:
            moved.append({**where, "contiguous": reached})
    if reports:
        tx.executemany(
            _PUT_REPORT,
            [
                _report_row(device, spool, n, report, now)
                for (_, spool, n), (device, report) in reports.items()
            ],
        )
    if moved:
        tx.executemany(_PUT_SPOOL, moved)
    return receipts


def _report_row(device: _Device, spool: str, n: int, report: Report, now: int) -> dict[str, Any]:
    message = report.message
    return {
        "device_key": device.key,
        "spool": spool,
        "n": n,
        "kind": report.kind,
        "release_id": release_of(message)
        if isinstance(message, UpdateResult)
        else getattr(message, "release", None),
        "at": message.at * 1000 if message else now,
        "now": now,
        "body": report.uplink.body if message else b"",
    }


def _put_attempts(tx: Tx, reports: _Reports, now: int) -> frozenset[str]:
    rows: list[dict[str, Any]] = []
    # In the order in which each device reported, whatever the order of arrival.
    for _, (device, report) in sorted(reports.items(), key=lambda item: item[0]):
        result = report.message
        if not isinstance(result, UpdateResult) or not (release := release_of(result)):
            continue
        rows.append(
            {
                "release": release,
                "device_key": device.key,
                "attempt": result.attempt,
                "segment": result.segment or device.segment,
                "state": result.state,
                "cause": result.cause,
                "reason": result.reason,
                "check_name": result.check,
                "from_id": result.from_release,
                "now": now,
            }
        )
    if rows:
        tx.executemany(_PUT_ATTEMPT, rows)
    return frozenset(row["release"] for row in rows)


def _rank(column: str) -> str:
    cases = " ".join(f"WHEN '{state}' THEN {rank}" for state, rank in RANKS.items())
    return f"CASE {column} {cases} END"


_DEVICE: Final = "SELECT key, device_id, segment, revoked_at FROM devices WHERE device_id = :id0"
_DEVICES: Final = (
    "SELECT key, device_id, segment, revoked_at FROM devices WHERE device_id IN "  # noqa: S608  (numbers only)
    f"({', '.join(f':id{i}' for i in range(_CHUNK))})"
)
_PUT_STATUS: Final = """
INSERT INTO device_latest (device_key, boot, boot_id, seq, at, received_at, health, running, running_sequence,
    agent_version, body)
VALUES (:device_key, :boot, :boot_id, :seq, :at, :now, :health, :running, :running_sequence, :agent_version, :body)
ON CONFLICT (device_key) DO UPDATE SET boot = excluded.boot, boot_id = excluded.boot_id, seq = excluded.seq,
    at = excluded.at, received_at = excluded.received_at, health = excluded.health, running = excluded.running,
    running_sequence = excluded.running_sequence, agent_version = excluded.agent_version, body = excluded.body
WHERE excluded.boot > device_latest.boot
    OR (excluded.boot = device_latest.boot AND excluded.seq > device_latest.seq)
"""
_PUT_PRESENCE: Final = """
INSERT INTO presence (device_key, boot, session, state, at, next_wake, received_at)
VALUES (:device_key, :boot, :session, :state, :at, :next_wake, :now)
ON CONFLICT (device_key) DO UPDATE SET boot = excluded.boot, session = excluded.session, state = excluded.state,
    at = excluded.at, next_wake = excluded.next_wake, received_at = excluded.received_at
WHERE excluded.boot > presence.boot OR (excluded.boot = presence.boot AND excluded.session > presence.session)
    OR (excluded.boot = presence.boot AND excluded.session = presence.session AND (excluded.state <> presence.state
        OR excluded.at <> presence.at OR excluded.next_wake <> presence.next_wake))
"""
_CONTIGUOUS: Final = "SELECT contiguous FROM spools WHERE device_key = :device_key AND spool = :spool"
_ABOVE: Final = """
SELECT n FROM reports WHERE device_key = :device_key AND spool = :spool AND n > :n ORDER BY n LIMIT :limit
"""
_PUT_REPORT: Final = """
INSERT INTO reports (device_key, spool, n, kind, release_id, at, received_at, body)
VALUES (:device_key, :spool, :n, :kind, :release_id, :at, :now, :body)
ON CONFLICT (device_key, spool, n) DO NOTHING
"""
_PUT_SPOOL: Final = """
INSERT INTO spools (device_key, spool, contiguous) VALUES (:device_key, :spool, :contiguous)
ON CONFLICT (device_key, spool) DO UPDATE SET contiguous = excluded.contiguous
WHERE excluded.contiguous > spools.contiguous
"""
_PUT_ATTEMPT: Final = f"""
INSERT INTO attempts (release_id, device_key, attempt, segment, state, cause, reason, check_name, from_id,
    began_at, updated_at)
VALUES (:release, :device_key, :attempt, :segment, :state, :cause, :reason, :check_name, :from_id, :now, :now)
ON CONFLICT (release_id, device_key) DO UPDATE SET
    attempt = excluded.attempt, state = excluded.state, cause = excluded.cause, reason = excluded.reason,
    check_name = excluded.check_name, updated_at = excluded.updated_at,
    from_id = COALESCE(excluded.from_id, attempts.from_id),
    segment = CASE WHEN excluded.attempt > attempts.attempt THEN excluded.segment ELSE attempts.segment END,
    began_at = CASE WHEN excluded.attempt > attempts.attempt THEN excluded.began_at ELSE attempts.began_at END
WHERE excluded.attempt > attempts.attempt OR (excluded.attempt = attempts.attempt
    AND {_rank("excluded.state")} > {_rank("attempts.state")})
"""  # noqa: S608  (our own constants)
