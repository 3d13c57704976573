"""Writing durable reports: each once, the receipt up to the first gap, and the attempt it is about.

A report that was deleted for its age (`hub.telemetry.retention`) is not new when it comes again.
"""

from __future__ import annotations

from typing import Any, Final

from hub.broker.devices import Device
from hub.broker.outcomes import Heard, put_aftermaths, put_times
from hub.broker.reduce import RANKS, Report, contiguous, release_of
from hub.store import Tx
from topics.messages import UpdateResult

_ABOVE_GAP: Final = 10_000

Reports = dict[tuple[str, str, int], tuple[Device, Report]]
"""Reports and their devices, by (device id, spool, n)."""


def put(tx: Tx, reports: Reports, now: int) -> dict[tuple[str, str], int]:
    """Store what is new of `reports`; return the receipts: the highest n without a gap, by (device id, spool)."""
    spools: dict[tuple[str, str], dict[int, int]] = {}
    pruned: dict[tuple[str, str], int] = {}
    for (device_id, spool, n), (_, report) in reports.items():
        spools.setdefault((device_id, spool), {})[n] = report.sent
    receipts, moved = {}, []
    for (device_id, spool), sent in spools.items():
        key = reports[device_id, spool, next(iter(sent))][0].key
        where = {"device_key": key, "spool": spool}
        row = tx.one(_CONTIGUOUS, where)
        before = row["contiguous"] if row else 0
        pruned[device_id, spool] = row["pruned"] if row else 0
        stored = {row["n"] for row in tx.all(_ABOVE, {**where, "n": before, "limit": _ABOVE_GAP})}
        reached = receipts[device_id, spool] = contiguous(before, stored, sent)
        if reached > before:
            moved.append({**where, "contiguous": reached})
    if reports:
        tx.executemany(
            _PUT_REPORT,
            [
                _report_row(device, spool, n, report, now)
                for (device_id, spool, n), (device, report) in reports.items()
                if n > pruned[device_id, spool]
            ],
        )
    if moved:
        tx.executemany(_PUT_SPOOL, moved)
    return receipts


def _report_row(device: Device, spool: str, n: int, report: Report, now: int) -> dict[str, Any]:
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
        "body": report.arrival.payload if message else b"",
    }


def put_attempts(tx: Tx, reports: Reports, now: int) -> set[str]:
    """Let reports move the attempts they are about; return the releases."""
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
                "spool": result.spool,
                "n": result.n,
                "now": now,
            }
        )
    heard = [Heard(device.key, report.message) for device, report in reports.values() if report.message]
    if rows:
        tx.executemany(_PUT_ATTEMPT, rows)
        put_times(tx, heard)
    return {row["release"] for row in rows} | put_aftermaths(tx, heard, now)


def _rank(column: str) -> str:
    cases = " ".join(f"WHEN '{state}' THEN {rank}" for state, rank in RANKS.items())
    return f"CASE {column} {cases} END"


_CONTIGUOUS: Final = "SELECT contiguous, pruned FROM spools WHERE device_key = :device_key AND spool = :spool"
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
    began_at, updated_at, aftermath_spool, aftermath_n, epoch)
VALUES (:release, :device_key, :attempt, :segment, :state, :cause, :reason, :check_name, :from_id, :now, :now,
    :spool, :n, COALESCE((SELECT releases.epoch FROM releases WHERE releases.id = :release), 0))
ON CONFLICT (release_id, device_key) DO UPDATE SET
    attempt = excluded.attempt, state = excluded.state, cause = excluded.cause, reason = excluded.reason,
    check_name = excluded.check_name, updated_at = excluded.updated_at, epoch = excluded.epoch,
    aftermath_spool = excluded.aftermath_spool, aftermath_n = excluded.aftermath_n,
    aftermath = CASE WHEN excluded.attempt > attempts.attempt THEN '' ELSE attempts.aftermath END,
    from_id = COALESCE(excluded.from_id, attempts.from_id),
    segment = CASE WHEN excluded.attempt > attempts.attempt THEN excluded.segment ELSE attempts.segment END,
    began_at = CASE WHEN excluded.attempt > attempts.attempt THEN excluded.began_at ELSE attempts.began_at END
WHERE excluded.attempt > attempts.attempt OR (excluded.attempt = attempts.attempt
    AND {_rank("excluded.state")} > {_rank("attempts.state")})
"""  # noqa: S608  (our own constants)
