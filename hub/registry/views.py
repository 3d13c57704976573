"""Devices as the API shows them. Reading only; times are RFC 3339 UTC."""

from __future__ import annotations

from typing import Any

import msgspec

from hub.desired import quarantine_of
from hub.errors import Invalid, NotFound
from hub.registry import rules
from hub.registry.service import etag
from hub.store import Row, Tx
from hub.times import rfc3339
from topics import codec
from topics.channels import UPLINK_LIMIT
from topics.errors import DecodeError
from topics.messages import Status
from topics.names import SEGMENTS

MAX_LIMIT = 500

_SELECT = """
SELECT devices.*, device_latest.received_at AS heard_at, device_latest.health, device_latest.running,
    device_latest.agent_version, device_latest.body AS status, presence.state AS presence_state,
    presence.next_wake, presence.received_at AS presence_at, releases.version AS running_version
FROM devices LEFT JOIN device_latest ON device_latest.device_key = devices.key
LEFT JOIN presence ON presence.device_key = devices.key
LEFT JOIN releases ON releases.id = device_latest.running
"""


def one(tx: Tx, device_id: str, now: int) -> tuple[dict[str, Any], str]:
    """Return a device and its ETag; raises `NotFound`. `now` in ms."""
    row = tx.one(f"{_SELECT} WHERE devices.device_id = :id", {"id": device_id})
    if row is None:
        raise NotFound(f"There is no device {device_id}.")
    return _view(row, now), etag(row)


def page(
    tx: Tx, *, role: str | None, segment: str | None, limit: int, cursor: str | None, now: int
) -> dict[str, Any]:
    """Return one page of devices ordered by id, and the cursor of the next. A limit out of range is an error."""
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit must be 1 to {MAX_LIMIT}.", rule="limit")
    if segment is not None and segment not in SEGMENTS:
        raise Invalid(f"{segment!r} is not a segment.", rule="segment")
    params: dict[str, Any] = {"cursor": cursor or "", "limit": limit + 1}
    where = "devices.device_id > :cursor"
    if role is not None or segment is not None:
        where = _among(_pairs(tx, role, segment), params)
    rows = tx.all(f"{_SELECT} WHERE {where} ORDER BY devices.device_id LIMIT :limit", params)
    more = rows[limit - 1]["device_id"] if len(rows) > limit else None
    return {"items": [_view(row, now) for row in rows[:limit]], "next_cursor": more}


def _pairs(tx: Tx, role: str | None, segment: str | None) -> list[tuple[str, str]]:
    """Return every role and segment that a filter lets through; a role has its segments from its first token on."""
    roles = (
        [role] if role is not None else [row["role"] for row in tx.all("SELECT DISTINCT role FROM segments")]
    )
    segments = [segment] if segment is not None else list(SEGMENTS)
    return [(each, one) for each in roles for one in segments]


def _among(pairs: list[tuple[str, str]], params: dict[str, Any]) -> str:
    """Return the condition that a device is among the next of each pair; its parameters go into `params`.

    Each pair's next page comes from the index by role, segment and id. One condition over them all would have to sort
    every device that it lets through.
    """
    pages = []
    for number, (role, segment) in enumerate(pairs):
        params |= {f"role{number}": role, f"segment{number}": segment}
        pages.append(
            f"SELECT * FROM (SELECT key FROM devices WHERE role = :role{number} AND segment = :segment{number} "  # noqa: S608
            "AND device_id > :cursor ORDER BY device_id LIMIT :limit) AS page"
        )
    return f"devices.key IN ({' UNION ALL '.join(pages)})" if pages else "1 = 0"


def _view(row: Row, now: int) -> dict[str, Any]:
    status = _status(row["status"])
    heard_at = max(row["heard_at"] or 0, row["presence_at"] or 0) or None
    return {
        "device_id": row["device_id"],
        "role": row["role"],
        "segment": row["segment"],
        "branch": row["branch"],
        "site": row["site"],
        "hardware": row["hardware"],
        "serial": row["serial"],
        "owner": row["owner"],
        "geolocation": row["geolocation"],
        "tags": msgspec.json.decode(row["tags"]),
        "update_interval": row["update_interval"],
        "event_stream_url": row["event_stream_url"],
        "version_lock": row["version_lock"],
        "maintenance": bool(row["maintenance"]),
        "safe_mode": row["safe_mode"],
        "quarantine": quarantine_of(row),
        "revoked": row["revoked_at"] is not None,
        "rekey_allowed": bool(row["rekey_allowed"]),
        "presence": rules.presence(
            row["presence_state"], heard_at, row["next_wake"] or 0, row["update_interval"], now
        ),
        "last_seen": rfc3339(heard_at),
        "health": row["health"],
        "running": row["running"],
        "running_version": row["running_version"],
        "agent_version": row["agent_version"],
        "in_safe_mode": status.safe_mode if status else None,
        "attempt": msgspec.to_builtins(status.attempt) if status and status.attempt else None,
        "state": status.attempt.state if status and status.attempt else None,
        "verdict": msgspec.to_builtins(status.verdict) if status and status.verdict else None,
        "probes": msgspec.to_builtins(status.probes) if status and status.probes else None,
        "certificate_not_after": rfc3339(row["certificate_not_after"]),
        "created_at": rfc3339(row["created_at"]),
        "updated_at": rfc3339(row["updated_at"]),
    }


def _status(body: bytes | None) -> Status | None:
    if body is None:
        return None
    try:
        return codec.decode(body, Status, limit=UPLINK_LIMIT)
    except DecodeError:
        return None
