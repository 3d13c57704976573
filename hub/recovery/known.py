"""What the store holds of a device's troubles: its row, its stays in safe mode, its diagnostics, its last results."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from hub.errors import NotFound
from hub.recovery import rules
from hub.recovery.rules import Diagnostics, Held, Stay, Trouble
from hub.store import Row, Tx
from topics import codec
from topics.channels import UPLINK_LIMIT
from topics.errors import DecodeError
from topics.messages import Drift, Durable, Recovery, Status, UpdateResult

REPORTS: Final = 200
"""Newest reports of one kind that are looked at."""

T = TypeVar("T", bound=Durable)


def get_device(tx: Tx, device_id: str) -> Row:
    """Return a device's row; raises `NotFound`."""
    row = tx.one("SELECT * FROM devices WHERE device_id = :id", {"id": device_id})
    if row is None:
        raise NotFound(f"There is no device {device_id}.")
    return row


def reports(tx: Tx, key: int, kind: type[T]) -> list[tuple[T, int]]:
    """Return a device's reports of one kind with the time received (ms), newest first; unreadable ones are none."""
    rows = tx.all(
        "SELECT body, received_at FROM reports WHERE device_key = :key AND kind = :kind "
        "ORDER BY received_at DESC, spool DESC, n DESC LIMIT :limit",
        {"key": key, "kind": kind.kind, "limit": REPORTS},  # type: ignore[attr-defined]
    )
    found = []
    for row in rows:
        report = read(row["body"], kind)
        if report is not None:
            found.append((report, int(row["received_at"])))
    return found


def read(body: bytes, kind: type[T]) -> T | None:
    """Return a stored report; None for one that is in quarantine, or written by a later version of the hub."""
    try:
        return codec.decode(bytes(body), kind, limit=UPLINK_LIMIT)
    except DecodeError:
        return None


class Past:
    """One device's reports of safe mode and diagnostics, read once."""

    def __init__(self, tx: Tx, key: int) -> None:
        told = reports(tx, key, Recovery)
        self.stays: list[Stay] = rules.stays(told[::-1])
        self.diagnostics: Diagnostics | None = next(
            (rules.read_diagnostics(report, at) for report, at in told if report.state == "diagnostics"), None
        )

    @property
    def stay(self) -> Stay | None:
        """The newest stay in safe mode."""
        return self.stays[0] if self.stays else None

    @property
    def in_safe_mode(self) -> bool:
        """Whether the newest stay has not ended."""
        return self.stay is not None and self.stay.left_at is None


def held(tx: Tx, device: Row, past: Past) -> Held:
    """Return what is known of a device that is held back."""
    since = int(device["quarantined_at"])
    results = reports(tx, device["key"], UpdateResult)
    drift = tx.one("SELECT since FROM drifting WHERE device_key = :key", {"key": device["key"]})
    return Held(
        rule=device["quarantine_rule"],
        since=since,
        stay=past.stay,
        diagnostics=past.diagnostics,
        committed=any(result.state == "committed" and at >= since for result, at in results),
        drifting=drift is not None,
    )


def trouble(device: Row, past: Past) -> Trouble:
    """Return since when a device has been in trouble, and what it said of itself."""
    begins = []
    if device["quarantine_rule"]:
        begins.append(int(device["quarantined_at"]))
    if past.in_safe_mode and past.stay is not None:
        begins.append(past.stay.entered_at)
    return Trouble(since=min(begins, default=None), diagnostics=past.diagnostics)


def failures_in_a_row(tx: Tx, key: int) -> int:
    """Return how many activations of a device failed one after another."""
    return rules.failures_in_a_row(result for result, _ in reports(tx, key, UpdateResult))


def has_drift(message: Drift) -> bool:
    """Whether a check left differences that nobody repaired."""
    return bool(message.items or message.more) and not message.repaired


def status(tx: Tx, key: int) -> Status | None:
    """Return a device's last heartbeat, None without one or for one of a later version."""
    row = tx.one("SELECT body FROM device_latest WHERE device_key = :key", {"key": key})
    if row is None:
        return None
    try:
        return codec.decode(bytes(row["body"]), Status, limit=UPLINK_LIMIT)
    except DecodeError:
        return None


def offered(tx: Tx, device: Row) -> dict[str, Any]:
    """Return the row of what is offered to a device's role and segment, {} before there is one."""
    row = tx.one(
        "SELECT * FROM segments WHERE role = :role AND segment = :segment",
        {"role": device["role"], "segment": device["segment"]},
    )
    return dict(row) if row else {}
