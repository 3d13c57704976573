"""Putting a root document together: which keys, how many of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import click

from topics import envelope
from topics.documents import KeyRole, Root, TrustRole

ROLES: Final[tuple[TrustRole, ...]] = ("root", "release", "deployment")
MAX_KEYS: Final = 16
"""Keys that a role of a root document may name."""


def make_root(
    fleet: str,
    version: int,
    keys: Mapping[TrustRole, Iterable[bytes]],
    thresholds: Mapping[TrustRole, int],
    *,
    expires_at: int,
) -> Root:
    """Return a root document, `expires_at` in ms; raises `click.UsageError` for a threshold out of reach."""
    roles = {}
    for role in ROLES:
        keyids = sorted({envelope.key_id(key) for key in keys[role]})
        if len(keyids) > MAX_KEYS:
            raise click.UsageError(f"{len(keyids)} {role} keys are too many; a root names {MAX_KEYS} at most")
        if thresholds[role] > len(keyids):
            raise click.UsageError(
                f"threshold {role}={thresholds[role]} can never be reached with {len(keyids)} {role} "
                f"key{'s' if len(keyids) > 1 else ''}; give more keys or a lower threshold"
            )
        roles[role] = KeyRole(keyids=keyids, threshold=thresholds[role])
    every = {envelope.key_id(key): key for role in ROLES for key in keys[role]}
    return Root(fleet=fleet, version=version, expires_at=expires_at, keys=every, roles=roles)


def parse_thresholds(text: str, present: Mapping[TrustRole, int]) -> dict[TrustRole, int]:
    """Return `present` with the thresholds in `root=1,release=2` put in; raises `click.UsageError`."""
    thresholds = dict(present)
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        role = next((role for role in ROLES if role == name), None)
        if role is None or not (number.isascii() and number.isdigit()) or not 1 <= int(number) <= MAX_KEYS:
            raise click.UsageError(
                f"--threshold {part.strip()!r} is not ROLE=NUMBER; it looks like root=1,release=2,deployment=1"
            )
        thresholds[role] = int(number)
    return thresholds
