"""From a device's row to its signed, retained desired state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import msgspec

from hub.errors import Conflict
from hub.signer import Signer
from hub.store import Row, Tx
from topics.channels import DESIRED
from topics.documents import Command, Desired, Segment

NAMED_CAS: Final = "device_cas"
"""Key in `meta`: the CAs that desired states name, as JSON."""


def hoist_desired(tx: Tx, signer: Signer, device_id: str, now: int) -> bytes:
    """Sign the device's desired state and store it as wanted on its topic; return the envelope."""
    row = tx.one("SELECT * FROM devices WHERE device_id = :id", {"id": device_id})
    if row is None:
        raise LookupError(device_id)
    topic = DESIRED.topic(signer.fleet, id=device_id)
    lock, commands, cas = _lock(tx, row["version_lock"]), _pending(tx, row["key"]), named_cas(tx)
    return signer.hoist(
        tx,
        topic,
        "desired",
        lambda issued_at: desired_of(row, signer.fleet, lock, issued_at, commands, cas),
        now=now,
    )


def desired_of(
    row: Row,
    fleet: str,
    lock: bytes | None,
    issued_at: int,
    commands: Sequence[Command] = (),
    cas: Sequence[str] = (),
) -> Desired:
    """Return what a device's row asks of it; `lock` is the envelope of the release it is locked to."""
    return Desired(
        to=DESIRED.topic(fleet, id=row["device_id"]),
        fleet=fleet,
        device_id=row["device_id"],
        issued_at=issued_at,
        role=row["role"],
        segment=cast("Segment", row["segment"]),
        branch=row["branch"],
        update_interval=row["update_interval"],
        event_stream_url=row["event_stream_url"],
        version_lock=lock,
        maintenance=bool(row["maintenance"]),
        safe_mode=row["safe_mode"],
        quarantine=quarantine_of(row),
        tags=msgspec.json.decode(row["tags"], type=dict[str, str]),
        commands=list(commands),
        cas=list(cas),
    )


def named_cas(tx: Tx) -> list[str]:
    """Return the CAs (SHA-256) that devices are told to know their broker by; none until one was replaced."""
    row = tx.one("SELECT value FROM meta WHERE key = :key", {"key": NAMED_CAS})
    return msgspec.json.decode(row["value"], type=list[str]) if row else []


def quarantine_of(row: Row) -> str:
    """Return why a device's row holds its updates back, "" where it does not."""
    rule, reason = row["quarantine_rule"], row["quarantine_reason"]
    return f"{rule}: {reason}"[:1024] if rule else ""


def check_lock(tx: Tx, release_id: str, role: str) -> None:
    """Raise `Conflict` unless a device of `role` can be locked to a release: published, with its bundle stored."""
    row = tx.one("SELECT role, state FROM releases WHERE id = :id", {"id": release_id})
    if row is None or row["role"] != role or row["state"] == "draft":
        raise Conflict(
            f"{release_id} is not a published release of role {role}; a device can only be locked to one.",
            rule="version_lock",
        )
    if tx.one("SELECT 1 AS there FROM artifacts WHERE release_id = :id", {"id": release_id}) is None:
        raise Conflict(
            f"The bundle of {release_id} is no longer stored; publish the release again, then lock the device.",
            rule="version_lock",
        )


def _pending(tx: Tx, key: int) -> list[Command]:
    rows = tx.all(
        "SELECT * FROM commands WHERE device_key = :key AND state = 'pending' ORDER BY created_at, id",
        {"key": key},
    )
    return [
        Command(
            id=row["id"],
            kind=row["kind"],
            expires_at=row["expires_at"],
            release=row["release_id"],
            args=msgspec.json.decode(row["args"], type=dict[str, str]),
        )
        for row in rows
    ]


def _lock(tx: Tx, release_id: str | None) -> bytes | None:
    if release_id is None:
        return None
    row = tx.one("SELECT envelope FROM releases WHERE id = :id", {"id": release_id})
    return bytes(row["envelope"]) if row else None
