"""A device's telemetry and the quarantine, read from what ingest keeps."""

from __future__ import annotations

from itertools import islice
from typing import Any

import msgspec

from hub.errors import Invalid
from hub.store import Row, Tx
from hub.telemetry import asked, timeline
from hub.telemetry.asked import Span
from hub.telemetry.buckets import HEALTHS
from hub.telemetry.history import TIERS, Entry, History
from hub.times import rfc3339
from topics import codec
from topics.channels import UPLINK_LIMIT
from topics.errors import DecodeError
from topics.messages import DURABLE_TYPES, Status


def device(tx: Tx, device_id: str, *, limit: int, cursor: str | None, now: int) -> dict[str, Any]:
    """Return a device's latest status and one page of its durable reports, newest first; `now` in ms.

    Raises `Invalid` and `NotFound`.
    """
    row = asked.device(tx, device_id)
    latest = tx.one("SELECT * FROM device_latest WHERE device_key = :key", {"key": row["key"]})
    everything = asked.span(None, None)
    page = timeline.page(tx, row, kinds=DURABLE_TYPES, span=everything, limit=limit, cursor=cursor, now=now)
    return {
        "device_id": device_id,
        "status": _status(latest),
        "reports": [
            {**item["detail"], "kind": item["kind"], "received_at": item["at"]} for item in page["items"]
        ],
        "next_cursor": page["next_cursor"],
    }


def rollups(
    tx: Tx, device_id: str, *, tier: str, span: Span, limit: int, cursor: str | None, now: int
) -> dict[str, Any]:
    """Return one page of a device's rollups, newest first; `now` in ms. Raises `Invalid` and `NotFound`."""
    asked.check_limit(limit)
    if tier not in TIERS:
        raise Invalid(f"{tier!r} is not a tier; the tiers are {', '.join(TIERS)}.", rule="tier")
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 16):
        raise Invalid("cursor must be the next_cursor of an earlier answer.", rule="cursor")
    end = -(-span.end // 1000)
    history = History(tx, asked.device(tx, device_id), now)
    entries = history.entries(tier, -(-span.begin // 1000), min(end, int(cursor)) if cursor else end)
    found = list(islice(entries, limit + 1))
    return {
        "device_id": device_id,
        "tier": tier,
        "items": [_bucket(entry, TIERS[tier]) for entry in found[:limit]],
        "next_cursor": str(found[limit - 1].start) if len(found) > limit else None,
    }


def _bucket(entry: Entry, seconds: int) -> dict[str, Any]:
    slot = entry.slot
    return {
        "start": rfc3339(entry.start * 1000),
        "seconds": seconds,
        "open": entry.open,
        "heartbeats": slot.heartbeats,
        "health": HEALTHS[slot.health],
        "cpu_load": _reading(slot.cpu_mean, slot.cpu_max),
        "memory_used": _reading(slot.memory_mean, slot.memory_max),
        "disk_used": _reading(slot.disk_mean, slot.disk_max),
        "temperature": _reading(slot.degree_mean, slot.degree_max),
    }


def _reading(mean: float | None, highest: float | None) -> dict[str, float] | None:
    if mean is None or highest is None:
        return None
    return {"mean": round(mean, 4), "max": round(highest, 4)}


def quarantine(tx: Tx, *, limit: int) -> dict[str, Any]:
    """Return what could not be taken in: counts by reason, and the newest messages with their first bytes."""
    asked.check_limit(limit)
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


def _status(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    received_at = rfc3339(row["received_at"])
    try:
        body: dict[str, Any] = msgspec.to_builtins(codec.decode(row["body"], Status, limit=UPLINK_LIMIT))
    except DecodeError as error:
        # Written by a later version that this one was put back from; the bytes stay in the store.
        body = {"unreadable": error.detail}
    return {**body, "received_at": received_at}
