"""Commands to one device: queued in its signed desired state until it answers, they expire, or they are taken back.

    pending ──result──► done, failed
    pending ──time──► expired      pending ──operator──► cancelled
    pending ──a newer one of its kind, or too many──► superseded

At most `MOST` are pending, so an old one that is stuck never hides a newer one. Whoever changes them here hoists the
desired state in the same transaction.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

import msgspec

from hub.caller import Caller, rule
from hub.errors import NotFound
from hub.events import Event, append
from hub.recovery import rules
from hub.store import Row, Tx
from hub.times import rfc3339
from topics.documents import CommandKind

MOST: Final = 16
LIFETIME_S: Final = 86_400
LONGEST_S: Final = 30 * 86_400
"""A device that sleeps for a month finds its command when it wakes."""
KEEP_MS: Final = 90 * 86_400_000


def queue(
    tx: Tx,
    device: Row,
    kind: CommandKind,
    caller: Caller,
    now: int,
    *,
    release: str | None = None,
    args: dict[str, str] | None = None,
    lifetime: int = LIFETIME_S,
    reason: str = "",
) -> str:
    """Queue a command that expires after `lifetime` s; return its id. `now` in ms.

    What the device ended longer than `KEEP_MS` ago is forgotten.
    """
    tx.execute(
        "DELETE FROM commands WHERE device_key = :key AND state <> 'pending' AND ended_at < :before",
        {"key": device["key"], "before": now - KEEP_MS},
    )
    waiting = pending(tx, device["key"])
    replaced = rules.superseded(waiting, kind)
    left = [command for command in waiting if command["id"] not in replaced]
    for command in replaced:
        end(tx, device, command, "superseded", f"a newer {kind} came", caller, now)
    for command in rules.crowded_out(left, MOST):
        end(tx, device, command, "superseded", f"{MOST} newer commands came", caller, now)
    made = f"c-{secrets.token_hex(8)}"
    tx.execute(
        "INSERT INTO commands (id, device_key, kind, release_id, args, created_at, created_by, reason, expires_at, "
        "state) VALUES (:id, :key, :kind, :release, :args, :now, :by, :reason, :expires_at, 'pending')",
        {
            "id": made,
            "key": device["key"],
            "kind": kind,
            "release": release,
            "args": msgspec.json.encode(args or {}).decode(),
            "now": now,
            "by": caller.name,
            "reason": reason,
            "expires_at": now + lifetime * 1000,
        },
    )
    body = {"command": made, "kind": kind, "expires_at": rfc3339(now + lifetime * 1000), **(args or {})}
    append(tx, _event("command.queued", device, release, reason, body), caller, now)
    return made


def end(tx: Tx, device: Row, command_id: str, state: str, detail: str, caller: Caller, now: int) -> bool:
    """Take a pending command of a device out; return whether there was one. `now` in ms."""
    where = {"id": command_id, "key": device["key"]}
    row = tx.one("SELECT * FROM commands WHERE id = :id AND device_key = :key AND state = 'pending'", where)
    if row is None:
        return False
    tx.execute(
        "UPDATE commands SET state = :state, detail = :detail, ended_at = :now WHERE id = :id",
        {"state": state, "detail": detail, "now": now, "id": command_id},
    )
    body = {"command": command_id, "kind": row["kind"], "outcome": state}
    append(tx, _event("command.ended", device, row["release_id"], detail, body), caller, now)
    return True


def expire(tx: Tx, now: int) -> list[str]:
    """Take out what has expired by `now` (ms); return the ids of the devices concerned."""
    devices = {
        row["key"]: row
        for row in tx.all(
            "SELECT DISTINCT devices.* FROM commands JOIN devices ON devices.key = commands.device_key "
            "WHERE commands.state = 'pending' AND commands.expires_at <= :now",
            {"now": now},
        )
    }
    for key, device in devices.items():
        for command in pending(tx, key):
            if command["expires_at"] <= now:
                end(tx, device, command["id"], "expired", "not carried out in time", rule("expiry"), now)
    return [device["device_id"] for device in devices.values()]


def pending(tx: Tx, key: int) -> list[dict[str, Any]]:
    """Return the pending commands of a device, oldest first."""
    rows = tx.all(
        "SELECT * FROM commands WHERE device_key = :key AND state = 'pending' ORDER BY created_at, id",
        {"key": key},
    )
    return [dict(row) for row in rows]


def get(tx: Tx, device: Row, command_id: str) -> dict[str, Any]:
    """Return one command as the API shows it; raises `NotFound`."""
    row = tx.one(
        "SELECT * FROM commands WHERE id = :id AND device_key = :key",
        {"id": command_id, "key": device["key"]},
    )
    if row is None:
        raise NotFound(f"{device['device_id']} has no command {command_id}.")
    return shown(row)


def newest(tx: Tx, key: int, limit: int) -> list[dict[str, Any]]:
    """Return the newest commands of a device as the API shows them: those that are pending, then those that ended."""
    rows = tx.all(
        "SELECT * FROM commands WHERE device_key = :key "
        "ORDER BY CASE state WHEN 'pending' THEN 0 ELSE 1 END, created_at DESC, id DESC LIMIT :limit",
        {"key": key, "limit": limit},
    )
    return [shown(row) for row in rows]


def shown(row: Row) -> dict[str, Any]:
    """Return a command as the API shows it."""
    return {
        "id": row["id"],
        "kind": row["kind"],
        "release": row["release_id"],
        "args": msgspec.json.decode(row["args"]),
        "state": row["state"],
        "reason": row["reason"],
        "detail": row["detail"],
        "created_at": rfc3339(row["created_at"]),
        "created_by": row["created_by"],
        "expires_at": rfc3339(row["expires_at"]),
        "ended_at": rfc3339(row["ended_at"]),
    }


def _event(kind: str, device: Row, release: str | None, reason: str, body: dict[str, Any]) -> Event:
    return Event(
        kind=kind,
        device_id=device["device_id"],
        role=device["role"],
        release_id=release,
        reason=reason,
        body=body,
    )
