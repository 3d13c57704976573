"""A device's timeline and the quarantine, read from what ingest keeps."""

from __future__ import annotations

from typing import Any

import msgspec

from hub.errors import Invalid, NotFound
from hub.store import Row, Tx
from hub.times import rfc3339
from topics import codec
from topics.channels import UPLINK_LIMIT
from topics.errors import DecodeError
from topics.messages import DURABLE_TYPES, Status

MAX_LIMIT = 500


def timeline(tx: Tx, device_id: str, *, limit: int, before: int | None) -> dict[str, Any]:
    """Return a device's latest status and its durable reports, newest first; `before` is a time in ms."""
    _check_limit(limit)
    device = tx.one("SELECT key FROM devices WHERE device_id = :id", {"id": device_id})
    if device is None:
        raise NotFound(f"There is no device {device_id}.")
    latest = tx.one("SELECT * FROM device_latest WHERE device_key = :key", {"key": device["key"]})
    rows = tx.all(
        "SELECT * FROM reports WHERE device_key = :key AND received_at < :before "
        "ORDER BY received_at DESC, n DESC LIMIT :limit",
        {"key": device["key"], "before": before if before is not None else 2**62, "limit": limit + 1},
    )
    return {
        "device_id": device_id,
        "status": _status(latest),
        "reports": [_report(row) for row in rows[:limit]],
        "next_before": rows[limit - 1]["received_at"] if len(rows) > limit else None,
    }


def quarantine(tx: Tx, *, limit: int) -> dict[str, Any]:
    """Return what could not be taken in: counts by reason, and the newest messages with their first bytes."""
    _check_limit(limit)
    counts = tx.all("SELECT reason, count FROM quarantine_counts ORDER BY reason")
    rows = tx.all("SELECT * FROM quarantine ORDER BY id DESC LIMIT :limit", {"limit": limit})
    return {
        "counts": {row["reason"]: row["count"] for row in counts},
        "items": [
            {
                "topic": row["topic"],
                "reason": row["reason"],
                "detail": row["detail"],
                "size": row["size"],
                "first_bytes": bytes(row["first_bytes"]).hex(),
                "received_at": rfc3339(row["received_at"]),
            }
            for row in rows
        ],
    }


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit must be 1 to {MAX_LIMIT}.", rule="limit")


def _status(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    body = _builtins(row["body"], Status)
    return {**body, "received_at": rfc3339(row["received_at"])}


def _report(row: Row) -> dict[str, Any]:
    body = _builtins(row["body"], DURABLE_TYPES[row["kind"]])
    return {**body, "kind": row["kind"], "received_at": rfc3339(row["received_at"])}


def _builtins(body: bytes, kind: type[msgspec.Struct]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = msgspec.to_builtins(codec.decode(body, kind, limit=UPLINK_LIMIT))
    except DecodeError as error:
        # Written by a later version that this one was put back from; the bytes stay in the store.
        return {"unreadable": error.detail}
    return found
