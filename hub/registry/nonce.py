"""Registration nonces that the hub need not remember: a time and a MAC over it and the device's id."""

from __future__ import annotations

import hmac

LIFETIME_MS = 60_000


def issue(secret: bytes, device_id: str, now: int) -> bytes:
    """Return a nonce for one device, good for a minute from `now` (ms)."""
    stamp = now.to_bytes(8, "big")
    return stamp + _mac(secret, device_id, stamp)


def is_valid(secret: bytes, device_id: str, nonce: bytes, now: int) -> bool:
    """Whether `nonce` is one of ours for the device, and no older than a minute."""
    stamp, mac = nonce[:8], nonce[8:]
    age = now - int.from_bytes(stamp, "big")
    return hmac.compare_digest(mac, _mac(secret, device_id, stamp)) and 0 <= age <= LIFETIME_MS


def _mac(secret: bytes, device_id: str, stamp: bytes) -> bytes:
    return hmac.digest(secret, b"nonce\0" + device_id.encode() + b"\0" + stamp, "sha256")
