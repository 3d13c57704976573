"""Holding a device back and letting it go, within a transaction; whoever does it hoists the desired state."""

from __future__ import annotations

from typing import Final

from hub.caller import Caller
from hub.events import Event, append
from hub.recovery import commands, rules
from hub.recovery.rules import HOUR_MS, Limits
from hub.store import Row, Tx

_TEXT: Final = 900
"""Characters of a reason that a desired state has room for beside the rule."""


def hold(tx: Tx, device: Row, by_rule: rules.Rule, reason: str, caller: Caller, now: int) -> None:
    """Put a device into quarantine and ask it for its diagnostics. `now` in ms."""
    tx.execute(
        "UPDATE devices SET quarantine_rule = :rule, quarantine_reason = :reason, quarantined_by = :by, "
        "quarantined_at = :now, revision = devices.revision + 1, updated_at = :now WHERE key = :key",
        {"rule": by_rule, "reason": reason[:_TEXT], "by": caller.name, "now": now, "key": device["key"]},
    )
    event = Event(
        kind="device.quarantined",
        device_id=device["device_id"],
        role=device["role"],
        reason=reason,
        body={"rule": by_rule, "segment": device["segment"]},
    )
    append(tx, event, caller, now)
    commands.queue(tx, device, "collect-diagnostics", caller, now, reason=f"quarantine by {by_rule}")


def let_go(tx: Tx, device: Row, reason: str, caller: Caller, now: int) -> None:
    """End a device's quarantine; it may update again."""
    tx.execute(
        "UPDATE devices SET quarantine_rule = '', quarantine_reason = '', quarantined_by = '', quarantined_at = 0, "
        "revision = devices.revision + 1, updated_at = :now WHERE key = :key",
        {"now": now, "key": device["key"]},
    )
    event = Event(
        kind="device.let_go",
        device_id=device["device_id"],
        role=device["role"],
        reason=reason,
        body={"rule": device["quarantine_rule"], "segment": device["segment"]},
    )
    append(tx, event, caller, now)


def tell_storm(tx: Tx, role: str, limits: Limits, caller: Caller, now: int) -> bool:
    """Write the event of a storm in a role, once an hour; return whether there was one to tell."""
    since = now - HOUR_MS
    told = tx.one("SELECT at FROM storms WHERE role = :role AND at > :since", {"role": role, "since": since})
    quarantined, devices = in_the_last_hour(tx, role, now)
    if told is not None or not rules.is_storm(quarantined, devices, limits):
        return False
    tx.execute(
        "INSERT INTO storms (role, at, devices) VALUES (:role, :now, :devices) "
        "ON CONFLICT (role) DO UPDATE SET at = excluded.at, devices = excluded.devices",
        {"role": role, "now": now, "devices": quarantined},
    )
    reason = f"{quarantined} of {devices} devices of {role} were quarantined within an hour"
    body = {"quarantined": quarantined, "devices": devices}
    append(tx, Event(kind="recovery.storm", role=role, reason=reason, body=body), caller, now)
    return True


def in_the_last_hour(tx: Tx, role: str, now: int) -> tuple[int, int]:
    """Return how many devices of a role rules put into quarantine within an hour, and how many it has."""
    row = tx.one(
        "SELECT COUNT(*) AS devices FROM devices WHERE role = :role AND quarantine_rule <> '' "
        "AND quarantine_rule <> 'operator' AND quarantined_at > :since",
        {"role": role, "since": now - HOUR_MS},
    )
    size = tx.one(
        "SELECT COALESCE(SUM(devices), 0) AS devices FROM segment_sizes WHERE role = :role", {"role": role}
    )
    return (int(row["devices"]) if row else 0), (int(size["devices"]) if size else 0)
