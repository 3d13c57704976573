"""A small world to test trust in: keys by name, and signed documents with whatever is wrong said by name.

Keys come from their names, so every run signs the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgpack
import msgspec
from nacl.signing import SigningKey

from topics import codec, envelope
from topics.channels import DESIRED, MANIFEST
from topics.documents import Bundle, Config, Desired, KeyRole, Manifest, Release, Root
from topics.eligibility import Facts
from topics.trust import Clock, TrustState, accept_manifest, pin_root, sha256

FLEET: Final = "acme"
DEVICE: Final = "shop-12"
NOW: Final = 1_750_000_000_000
DAY: Final = 86_400_000
CLOCK: Final = Clock(NOW, ok=True)
NO_CLOCK: Final = Clock(0, ok=False)
TOPIC: Final = MANIFEST.topic(FLEET, role="kiosk", segment="canary")
DESIRED_TOPIC: Final = DESIRED.topic(FLEET, id=DEVICE)


def key(name: str) -> SigningKey:
    """Return the key called `name`."""
    return SigningKey(hashlib.sha256(name.encode()).digest())


def public(name: str) -> bytes:
    """Return the public half of the key called `name`."""
    return bytes(key(name).verify_key)


def keyid(name: str) -> str:
    """Return the key id of the key called `name`."""
    return envelope.key_id(public(name))


def sign(document: msgspec.Struct, kind: str, signers: Iterable[str]) -> bytes:
    """Return `document` signed as a `kind` by the keys called `signers`."""
    return envelope.sign(codec.encode(document), kind, [key(name) for name in signers])


def root(
    version: int = 1,
    *,
    fleet: str = FLEET,
    roots: tuple[str, ...] = ("root-1",),
    releases: tuple[str, ...] = ("release-1",),
    deployments: tuple[str, ...] = ("hub-1",),
    thresholds: Mapping[str, int] | None = None,
    expires_at: int = NOW + 365 * DAY,
) -> Root:
    """Return a root document that lists the named keys; thresholds are 1 unless given."""
    listed: dict[Any, tuple[str, ...]] = {"root": roots, "release": releases, "deployment": deployments}
    least = thresholds or {}
    return Root(
        fleet=fleet,
        version=version,
        expires_at=expires_at,
        keys={keyid(name): public(name) for names in listed.values() for name in names},
        roles={
            role: KeyRole(keyids=[keyid(name) for name in names], threshold=least.get(role, 1))
            for role, names in listed.items()
        },
    )


def signed_root(version: int = 1, *, signers: tuple[str, ...] = ("root-1",), **changes: Any) -> bytes:
    """Return the envelope of `root(version, **changes)` by `signers`."""
    return sign(root(version, **changes), "root", signers)


def pinned(data: bytes | None = None) -> TrustState:
    """Return the state of a device that has just pinned `data`, else the plain root v1."""
    first = data or signed_root()
    return pin_root(first, sha256(first))


def release(sequence: int = 7, **changes: Any) -> Release:
    """Return the kiosk release numbered `sequence`."""
    commit = hashlib.sha1(str(sequence).encode(), usedforsecurity=False).hexdigest()
    fields: dict[str, Any] = {
        "fleet": FLEET,
        "id": f"kiosk-{sequence}-{commit[:12]}",
        "role": "kiosk",
        "commit": commit,
        "sequence": sequence,
        "version": f"1.{sequence}.0",
        "bundle": Bundle(sha256="a" * 64, size=1000, tar_sha256="b" * 64),
        "checksums": "c" * 64,
        "compose_sha256": "d" * 64,
        "hook": "exec",
        "created_at": NOW - DAY,
    }
    return Release(**{**fields, **changes})


def signed_release(sequence: int = 7, *, signers: tuple[str, ...] = ("release-1",), **changes: Any) -> bytes:
    """Return the envelope of `release(sequence, **changes)` by `signers`."""
    return sign(release(sequence, **changes), "release", signers)


def manifest(issued_at: int = NOW, **changes: Any) -> Manifest:
    """Return the manifest of kiosk/canary: release 7 to everyone unless changed."""
    fields: dict[str, Any] = {
        "to": TOPIC,
        "fleet": FLEET,
        "role": "kiosk",
        "segment": "canary",
        "issued_at": issued_at,
        "expires_at": NOW + 7 * DAY,
        "event": "update_available",
        "stable": signed_release(),
    }
    return Manifest(**{**fields, **changes})


def signed_manifest(issued_at: int = NOW, *, signers: tuple[str, ...] = ("hub-1",), **changes: Any) -> bytes:
    """Return the envelope of `manifest(issued_at, **changes)` by `signers`."""
    return sign(manifest(issued_at, **changes), "manifest", signers)


def desired(issued_at: int = NOW, **changes: Any) -> Desired:
    """Return the desired state of `DEVICE`."""
    fields: dict[str, Any] = {
        "to": DESIRED_TOPIC,
        "fleet": FLEET,
        "device_id": DEVICE,
        "issued_at": issued_at,
        "role": "kiosk",
        "segment": "canary",
    }
    return Desired(**{**fields, **changes})


def signed_desired(issued_at: int = NOW, *, signers: tuple[str, ...] = ("hub-1",), **changes: Any) -> bytes:
    """Return the envelope of `desired(issued_at, **changes)` by `signers`."""
    return sign(desired(issued_at, **changes), "desired", signers)


def config(**changes: Any) -> Config:
    """Return the config bundle that registration of `DEVICE` answers."""
    fields: dict[str, Any] = {
        "to": DESIRED_TOPIC,
        "fleet": FLEET,
        "device_id": DEVICE,
        "issued_at": NOW,
        "role": "kiosk",
        "segment": "canary",
        "mqtt_host": "127.0.0.1",
        "mqtt_port": 8883,
        "http_url": "http://127.0.0.1:8080",
    }
    return Config(**{**fields, **changes})


def trusted_until(*documents: bytes, state: TrustState | None = None) -> TrustState:
    """Return the state of a device that has trusted each of `documents` (manifests) in turn."""
    state = state or pinned()
    for data in documents:
        state, _ = accept_manifest(state, TOPIC, data, CLOCK)
    return state


def repacked(data: bytes, **changes: Any) -> bytes:
    """Return the envelope `data` with fields replaced after signing."""
    packed: bytes = msgpack.packb({**msgpack.unpackb(data), **changes})
    return packed


def altered_payload(data: bytes, **changes: Any) -> bytes:
    """Return the envelope `data` with fields of its payload replaced and the old signatures kept."""
    payload = msgpack.unpackb(msgpack.unpackb(data)["payload"])
    return repacked(data, payload=msgpack.packb({**payload, **changes}))


def facts(**changes: Any) -> Facts:
    """Return what `DEVICE` knows of itself when it runs release 6."""
    before = release(6)
    fields: dict[str, Any] = {
        "device_id": DEVICE,
        "role": "kiosk",
        "segment": "canary",
        "hardware": "rpi4",
        "agent_version": "1.2.0",
        "running": before.id,
        "running_sequence": before.sequence,
    }
    return Facts(**{**fields, **changes})
