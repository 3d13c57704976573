"""Certificates that were withdrawn before their time: of devices revoked or deleted, or made anew with another key.

A device has its present certificate, in its row, and those that were renewed and have not expired: all are good at the
broker, so all are withdrawn together.
"""

from __future__ import annotations

from typing import NamedTuple

from hub.identity.revocation import serial_of
from hub.store import Row, Store, Tx


class Revoked(NamedTuple):
    """A withdrawn certificate; `n` grows with each."""

    n: int
    serial: str
    device_id: str


def replaced(tx: Tx, device: Row, now: int) -> None:
    """Remember the certificate of a row of `devices`, which another takes the place of. `now` is in ms."""
    tx.execute(
        "DELETE FROM former_certificates WHERE device_key = :key AND not_after <= :now",
        {"key": device["key"], "now": now},
    )
    tx.execute(
        "INSERT INTO former_certificates (serial, device_key, not_after) VALUES (:serial, :key, :not_after) "
        "ON CONFLICT (serial) DO NOTHING",
        {
            "serial": serial_of(device["certificate_pem"]),
            "key": device["key"],
            "not_after": device["certificate_not_after"],
        },
    )


def withdraw(tx: Tx, device: Row, now: int) -> None:
    """Withdraw every certificate of a row of `devices`. `now` is in ms."""
    replaced(tx, device, now)
    tx.execute(
        "INSERT INTO revoked_certificates (serial, device_id, not_after, revoked_at) "
        "SELECT serial, :device_id, not_after, :now FROM former_certificates WHERE device_key = :key "
        "ON CONFLICT (serial) DO NOTHING",
        {"device_id": device["device_id"], "key": device["key"], "now": now},
    )
    tx.execute("DELETE FROM former_certificates WHERE device_key = :key", {"key": device["key"]})


def withdrawn(store: Store, now: int) -> list[Revoked]:
    """Return every withdrawn certificate that has not expired by itself at `now` (ms), in order."""
    with store.read() as tx:
        rows = tx.all(
            "SELECT n, serial, device_id FROM revoked_certificates WHERE not_after > :now ORDER BY n",
            {"now": now},
        )
    return [Revoked(row["n"], row["serial"], row["device_id"]) for row in rows]


def is_shut_out(store: Store, device_id: str) -> bool:
    """Whether certificates of this name were withdrawn and no device has it now that may come in."""
    with store.read() as tx:
        # In this order: most of those who ask are devices in good standing, found by their key.
        if tx.one("SELECT 1 FROM devices WHERE device_id = :id AND revoked_at IS NULL", {"id": device_id}):
            return False
        row = tx.one("SELECT 1 FROM revoked_certificates WHERE device_id = :id LIMIT 1", {"id": device_id})
    return row is not None


def last(store: Store) -> int:
    """Return the number of the certificate withdrawn last, 0 when none was."""
    with store.read() as tx:
        row = tx.one("SELECT COALESCE(MAX(n), 0) AS n FROM revoked_certificates")
    return int(row["n"]) if row else 0
