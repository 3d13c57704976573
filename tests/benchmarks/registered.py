"""A hub with up to a million registered devices: the rows that registration and heartbeats leave, filled in bulk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from hub.caller import Caller
from tests.hub.world import World
from topics import codec
from topics.messages import Attempt, Probes, Running, Status, Verdict

ADMIN: Final = Caller("admin", "admin")
BATCH: Final = 50_000
SHARES: Final = {"canary": 1, "early": 9, "general": 90}
"""Percent of the devices in each segment."""
OTHER_ROLES: Final = 10
"""One device in so many belongs to another role, so that a filter by role has something to leave out."""

_DEVICE: Final = (
    "INSERT INTO devices (key, device_id, public_key, role, segment, hardware, update_interval, token_id, "
    "certificate_pem, created_at, updated_at) VALUES (:key, :id, :public_key, :role, :segment, 'pi4', 300, 't', "
    ":certificate, :now, :now)"
)
_LATEST: Final = (
    "INSERT INTO device_latest (device_key, boot, boot_id, seq, at, received_at, health, running, running_sequence, "
    "agent_version, body) VALUES (:key, 1, '00000000', 1, :at, :now, 'ok', 'kiosk-1-aaaaaaaaaaaa', 1, '1.0', :body)"
)
_PRESENCE: Final = (
    "INSERT INTO presence (device_key, boot, session, state, at, next_wake, received_at) "
    "VALUES (:key, 1, 1, 'online', :at, 0, :now)"
)


def place(number: int) -> tuple[str, str]:
    """Role and segment of the `number`-th device."""
    role = "gateway" if number % OTHER_ROLES == OTHER_ROLES - 1 else "kiosk"
    percent, edge = number // OTHER_ROLES * 37 % 100, 0
    for segment, share in SHARES.items():
        edge += share
        if percent < edge:
            return role, segment
    raise AssertionError("the shares are not 100")


def device_id(number: int) -> str:
    """Id of the `number`-th device."""
    return f"shop-{number:07d}"


def rows(first: int, count: int, now: int) -> Iterator[dict[str, Any]]:
    """Parameters of the inserts for devices `first` to `first + count - 1`."""
    certificate = "-----BEGIN CERTIFICATE-----\n" + "A" * 600
    for number in range(first, first + count):
        role, segment = place(number)
        status = Status(
            boot=(1, "0" * 8),
            at=now // 1000,
            seq=1,
            role=role,
            segment=segment,
            agent_version="1.0",
            running=Running(id="kiosk-1-aaaaaaaaaaaa", sequence=1),
            attempt=Attempt(release="kiosk-1-aaaaaaaaaaaa", n=1, state="committed"),
            hardware="pi4",
            verdict=Verdict(reason="already_installed", release="kiosk-1-aaaaaaaaaaaa"),
            probes=Probes(cpu_load=0.3, memory_used=0.5, disk_used=0.25, disk_free=10**9, uptime=86_400),
        )
        yield {
            "key": number + 1,
            "id": device_id(number),
            "public_key": number.to_bytes(32, "big"),
            "role": role,
            "segment": segment,
            "certificate": certificate,
            "at": now // 1000,
            "now": now,
            "body": codec.encode(status),
        }


def fill(world: World, have: int, wanted: int) -> None:
    """Raise the number of registered devices from `have` to `wanted`, and leave the database as after a quiet hour."""
    for first in range(have, wanted, BATCH):
        batch = list(rows(first, min(BATCH, wanted - first), world.now))
        with world.store.write() as tx:
            for statement in (_DEVICE, _LATEST, _PRESENCE):
                tx.executemany(statement, batch)
    connection = world.store._connection()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.execute("PRAGMA optimize").fetchall()


def open_world(folder: Path) -> World:
    """Return a hub on disk whose role has a stable release; its clock stands until it is moved."""
    world = World(folder, own_application=True)
    if world.client.get("/trust/roots/1").status_code != 200:
        world.trust_root()
        world.new_token()
        stable = world.publish(1)
        with world.store.write() as tx:
            tx.execute("UPDATE segments SET stable_id = :id", {"id": stable})
            tx.execute("UPDATE releases SET state = 'complete' WHERE id = :id", {"id": stable})
        world.deployment.sign_again(ADMIN)
    return world
