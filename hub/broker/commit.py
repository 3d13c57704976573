"""Writing a batch: one transaction, after which everything in it may be acknowledged.

Every statement can meet the same message twice, or an older one after a newer one, and leaves the row right.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from hub.broker import latest, presences, reports
from hub.broker.arrivals import Uplink
from hub.broker.devices import Devices
from hub.broker.reduce import FIRST_BYTES, Batch, Refusal, Report, heartbeats_of
from hub.store import Tx

QUARANTINE_LIMIT: Final = 10_000
"""Messages kept for people to look at; beyond it they are only counted."""
_TEXT: Final = 500


@dataclass(slots=True)
class Outcome:
    """What was changed. `receipts` maps (device id, spool) to the highest contiguous n; `refused_logs` are messages
    that no sink is to have."""

    devices: set[str] = field(default_factory=set)
    releases: set[str] = field(default_factory=set)
    receipts: dict[tuple[str, str], int] = field(default_factory=dict)
    refused: int = 0
    refused_logs: list[Uplink] = field(default_factory=list)

    def __iadd__(self, later: Outcome) -> Outcome:
        """Add what was changed later; in place, since a batch has many parts."""
        self.devices |= later.devices
        self.releases |= later.releases
        self.receipts |= later.receipts
        self.refused += later.refused
        self.refused_logs += later.refused_logs
        return self


def apply(tx: Tx, batch: Batch, now: int, known: Devices | None = None) -> Outcome:
    """Write `batch`, received at `now` (ms). `known` remembers devices from batch to batch."""
    ids = batch.devices
    heard = ids | {device_id for device_id, _ in batch.logs} if batch.logs else ids
    devices, unknown, revoked = (known or Devices()).find(tx, heard)
    refusals = list(batch.refusals)

    def is_known(device_id: str, *arrivals: Uplink) -> bool:
        if device_id in devices:
            return True
        reason = "revoked" if device_id in revoked else "unknown_device"
        detail = f"{device_id} is not a device of this hub"
        refusals.extend(Refusal(arrival, reason, detail) for arrival in arrivals)
        return False

    if strangers := {device_id for device_id in unknown if device_id in batch.beats}:
        for device_id, beats in heartbeats_of(batch, strangers).items():
            is_known(device_id, *[arrival for _, arrival in beats])
    present = [
        (devices[device_id], presence)
        for device_id, (presence, arrival) in batch.presences.items()
        if is_known(device_id, arrival)
    ]
    durable: reports.Reports = {
        key: (devices[key[0]], report)
        for key, report in batch.reports.items()
        if is_known(key[0], report.arrival)
    }
    refused_logs = [refusal.arrival for refusal in batch.refusals if refusal.kind == "log"]
    refused_logs += [arrival for device_id, arrival in batch.logs if not is_known(device_id, arrival)]
    for refusal in batch.refusals:
        if refusal.device_id and refusal.key and (device := devices.get(refusal.device_id)):
            # Holds the number of what is in quarantine, so that the device's later reports can be receipted.
            stub = Report(refusal.kind, refusal.arrival, None, int(not refusal.arrival.duplicate))
            durable.setdefault((refusal.device_id, *refusal.key), (device, stub))
    latest.put(tx, batch, devices, now)
    presences.put(tx, present, now)
    receipts = reports.put(tx, durable, now)
    releases = reports.put_attempts(tx, durable, now)
    quarantine(tx, refusals, now)
    changed = ids - unknown if unknown else ids
    return Outcome(changed, releases, receipts, len(refusals), refused_logs)


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
                "topic": refusal.arrival.topic[:_TEXT],
                "reason": refusal.reason,
                "detail": refusal.detail[:_TEXT],
                "first_bytes": refusal.arrival.payload[:FIRST_BYTES],
                "size": len(refusal.arrival.payload),
                "now": now,
            }
            for refusal in refusals[:room]
        ],
    )
