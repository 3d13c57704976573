"""What people see of devices in trouble. Reading only; times are RFC 3339 UTC."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from hub.errors import Invalid
from hub.recovery import commands, known, rules
from hub.recovery.known import Past
from hub.recovery.rules import Diagnostics, Stay
from hub.store import Row, Tx
from hub.times import rfc3339
from topics.names import SEGMENTS

MAX_LIMIT: Final = 500
SHOWN: Final = 20
"""Newest stays and commands of one device."""


def device(tx: Tx, device_id: str) -> dict[str, Any]:
    """Return all that is known of a device's troubles; raises `NotFound`."""
    row = known.get_device(tx, device_id)
    past, status = Past(tx, row["key"]), known.status(tx, row["key"])
    refusal = rules.redeploy_refusal(known.trouble(row, past))
    return {
        "device_id": device_id,
        "role": row["role"],
        "segment": row["segment"],
        "running": status.running.id if status and status.running else None,
        "quarantine": quarantine(row),
        "safe_mode": row["safe_mode"],
        "in_safe_mode": past.in_safe_mode,
        "stays": [_stay(stay) for stay in past.stays[:SHOWN]],
        "diagnostics": _diagnostics(past.diagnostics),
        "probes": msgspec.to_builtins(status.probes) if status and status.probes else None,
        "redeploy": {
            "allowed": refusal is None,
            "detail": refusal[0] if refusal else "",
            "required": list(rules.REQUIRED),
            "not_passed": msgspec.to_builtins(refusal[1]) if refusal else [],
        },
        "commands": commands.newest(tx, row["key"], SHOWN),
    }


def command(tx: Tx, device_id: str, command_id: str) -> dict[str, Any]:
    """Return one command of a device; raises `NotFound`."""
    return commands.get(tx, known.get_device(tx, device_id), command_id)


def page(
    tx: Tx, *, role: str | None, segment: str | None, rule: str | None, limit: int, cursor: str | None
) -> dict[str, Any]:
    """Return one page of the devices in quarantine by id, how many there are by rule, and the cursor of the next."""
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"limit must be 1 to {MAX_LIMIT}.", rule="limit")
    if segment is not None and segment not in SEGMENTS:
        raise Invalid(f"{segment!r} is not a segment.", rule="segment")
    if rule is not None and rule not in rules.RULES:
        raise Invalid(f"{rule!r} is not one of {', '.join(rules.RULES)}.", rule="rule")
    asked = {"role": role, "segment": segment, "rule": rule}
    filters = {f"quarantine_{name}" if name == "rule" else name: name for name in asked if asked[name]}
    # Column names are our own constants, the texts are bound.
    where = " AND ".join(
        ["quarantine_rule <> ''", *(f"{column} = :{name}" for column, name in filters.items())]
    )
    rows = tx.all(
        f"SELECT * FROM devices WHERE {where} AND device_id > :cursor ORDER BY device_id LIMIT :limit",  # noqa: S608
        {**asked, "cursor": cursor or "", "limit": limit + 1},
    )
    counted = tx.all(
        f"SELECT quarantine_rule AS rule, COUNT(*) AS devices FROM devices WHERE {where} GROUP BY 1 ORDER BY 1",  # noqa: S608
        asked,
    )
    more = rows[limit - 1]["device_id"] if len(rows) > limit else None
    return {
        "counts": {row["rule"]: row["devices"] for row in counted},
        "items": [_item(row) for row in rows[:limit]],
        "next_cursor": more,
    }


def quarantine(row: Row) -> dict[str, Any] | None:
    """Return which rule holds a device back since when and why, None for one that is free."""
    if not row["quarantine_rule"]:
        return None
    return {
        "rule": row["quarantine_rule"],
        "reason": row["quarantine_reason"],
        "by": row["quarantined_by"],
        "since": rfc3339(row["quarantined_at"]),
    }


def _item(row: Row) -> dict[str, Any]:
    return {
        "device_id": row["device_id"],
        "role": row["role"],
        "segment": row["segment"],
        "site": row["site"],
        **(quarantine(row) or {}),
    }


def _stay(stay: Stay) -> dict[str, Any]:
    return {
        "entry": stay.entry,
        "ordered": stay.ordered,
        "reason": stay.reason,
        "release": stay.release,
        "entered_at": rfc3339(stay.entered_at),
        "left_at": rfc3339(stay.left_at),
        "left_reason": stay.left_reason,
    }


def _diagnostics(found: Diagnostics | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {**msgspec.to_builtins(found), "at": rfc3339(found.at)}
