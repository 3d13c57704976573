"""Messages as devices send them, and a store with devices in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hub.broker.reduce import Uplink
from hub.store import SqliteStore, Store
from topics import codec
from topics.channels import BY_NAME
from topics.messages import Durable, Message, Presence, Status, UpdateResult

FLEET = "acme"
SPOOL = "0123abcd"
BOOT = (1, "00000001")


def status(seq: int = 1, **fields: Any) -> Status:
    """A heartbeat."""
    values = {"boot": BOOT, "at": 1000, "role": "kiosk", "segment": "canary", "agent_version": "1.0"}
    return Status(seq=seq, **{**values, **fields})


def presence(state: Any = "online", session: int = 1, **fields: Any) -> Presence:
    """A presence."""
    return Presence(state=state, session=session, **{"boot": BOOT, **fields})


def result(
    n: int, state: Any = "downloading", release: str | None = "kiosk-7-abc", **fields: Any
) -> UpdateResult:
    """A durable report about an update."""
    values = {"boot": BOOT, "at": 1000, "spool": SPOOL, "attempt": 1}
    return UpdateResult(n=n, state=state, release=release, **{**values, **fields})


def topic(device_id: str, message: Message | str) -> str:
    """The topic on which a device sends `message` (or a message of that kind)."""
    kind = message if isinstance(message, str) else getattr(type(message), "kind")  # noqa: B009
    return BY_NAME[kind].topic(FLEET, id=device_id)


def uplink(device_id: str, message: Message, *, duplicate: bool = False) -> Uplink:
    """`message` as ingest gets it."""
    return Uplink(topic(device_id, message), codec.encode(message), codec.MSGPACK, duplicate)


def open_store(folder: Path, *device_ids: str) -> SqliteStore:
    """A migrated store that knows `device_ids`, all of role kiosk in segment canary."""
    store = SqliteStore(folder / "hub.db")
    with store.write() as tx:
        tx.executemany(
            "INSERT INTO devices (device_id, public_key, role, segment, update_interval, created_at, updated_at) "
            "VALUES (:id, :key, 'kiosk', 'canary', 300, 0, 0) ON CONFLICT (device_id) DO NOTHING",
            [{"id": device_id, "key": b"k"} for device_id in device_ids],
        )
    return store


def rows(store: Store, sql: str, **params: Any) -> list[dict[str, Any]]:
    """What a query answers, as plain dictionaries."""
    with store.read() as tx:
        return [dict(row) for row in tx.all(sql, params)]


__all__ = ["FLEET", "Durable", "open_store", "presence", "result", "rows", "status", "topic", "uplink"]
