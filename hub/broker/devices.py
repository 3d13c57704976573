"""The devices that ingest knows, remembered between batches.

A device's key and segment are the same from batch to batch, and looking up 30,000 of them by their ids costs
more than everything else. So they are remembered until `devices_version` in the store changes, which triggers
raise in the transaction that changes, revokes or deletes a device (a new one was not remembered).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Final

import msgspec

from hub.store import Tx

_CHUNK: Final = 400
LIMIT: Final = 250_000
"""Devices remembered; about 200 bytes each."""


class Device(msgspec.Struct, frozen=True, gc=False):
    """A device that may report."""

    key: int
    segment: str


class Devices:
    """What one slot remembers. `find` is called within the transaction that relies on it."""

    def __init__(self) -> None:
        self._version = -1
        self._known: dict[str, Device] = {}

    def find(self, tx: Tx, ids: Iterable[str]) -> tuple[dict[str, Device], set[str], set[str]]:
        """Return the devices by id, of which those among `ids` are current, which of `ids` are not among them, and
        which of these were revoked."""
        row = tx.one("SELECT n FROM devices_version")
        version = row["n"] if row else -1
        known = self._known
        if version != self._version or len(known) > LIMIT:
            known.clear()
            self._version = version
        # A set's difference from a view would walk over all that is known.
        missing = sorted(device_id for device_id in ids if device_id not in known)
        revoked = set()
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            # Filled up to one length, so that the statement is prepared once.
            chunk += chunk[-1:] * (_CHUNK - len(chunk)) if len(missing) > 1 else []
            same = dict(
                zip(chunk, chunk, strict=True)
            )  # the caller's strings, so that each is in memory once
            for row in tx.all(_DEVICES if len(chunk) > 1 else _DEVICE, chunk):
                device_id = same[row["device_id"]]
                if row["revoked_at"] is None:
                    known[device_id] = Device(row["key"], sys.intern(row["segment"]))
                else:
                    revoked.add(device_id)
        return known, {device_id for device_id in missing if device_id not in known}, revoked


_DEVICE: Final = "SELECT key, device_id, segment, revoked_at FROM devices WHERE device_id = ?"
_DEVICES: Final = (
    "SELECT key, device_id, segment, revoked_at FROM devices WHERE device_id IN "  # noqa: S608  (marks only)
    f"({', '.join('?' * _CHUNK)})"
)
