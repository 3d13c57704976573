"""Which bundles may go. Pure; a release's bundle is kept for the first of these reasons that holds:

1. `manifest`     a retained manifest names it: stable, candidate or waypoint
2. `segment`      a segment's row does, though its manifest may not be hoisted yet
3. `lock`         a device is locked to it
4. `running`      a device runs it by its last heartbeat
5. `on_the_way`   a device began an update to it, or from it, that has not ended
6. `open`         its rollout is not over: its policy, a schedule or an operator can still offer it
7. `rollback`     up to `rollbacks` rollbacks one after another lead to it from what is kept for 1 or 2. One that a
                  floor forbids leads nowhere, and neither does what lies behind it
8. `recent`       its bundle was uploaded less than `keep` ago
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

ROLLBACKS: Final = 3
"""Rollbacks one after another that find every bundle they need, unless a setting says otherwise."""
KEEP_MS: Final = 30 * 86_400_000
OPEN: Final = frozenset({"draft", "validated", "published", "rolling", "paused", "halted"})


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A release whose bundle is stored; `uploaded_at` in ms."""

    release: str
    state: str
    uploaded_at: int


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rollback of a release leads, and what it depends on: its number and its own floor."""

    sequence: int
    floor: int = 0
    previous: str | None = None


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """Release ids that something names."""

    manifest: Collection[str] = ()
    segment: Collection[str] = ()
    lock: Collection[str] = ()
    running: Collection[str] = ()
    on_the_way: Collection[str] = ()


def reasons(
    held: Collection[Held], needs: Needs, *, ways: Mapping[str, Way], rollbacks: int, now: int
) -> dict[str, str]:
    """Return why each held release is kept, "" for what may go; `now` in ms.

    `ways` has every release of the hub, whether its bundle is stored or not.
    """
    back = reachable({*needs.manifest, *needs.segment}, ways, rollbacks)
    return {one.release: _reason(one, needs, back, now) for one in held}


def _reason(one: Held, needs: Needs, back: Collection[str], now: int) -> str:
    named = (
        ("manifest", needs.manifest),
        ("segment", needs.segment),
        ("lock", needs.lock),
        ("running", needs.running),
        ("on_the_way", needs.on_the_way),
    )
    for reason, ids in named:
        if one.release in ids:
            return reason
    if one.state in OPEN:
        return "open"
    if one.release in back:
        return "rollback"
    return "recent" if now - one.uploaded_at < KEEP_MS else ""


def reachable(start: Collection[str], ways: Mapping[str, Way], rollbacks: int) -> set[str]:
    """Return the releases to which up to `rollbacks` rollbacks one after another lead from any of `start`."""
    found: set[str] = set()
    edge = set(start)
    for _ in range(rollbacks):
        edge = {before for release in edge if (before := _back(release, ways)) is not None}
        found |= edge
    return found


def _back(release: str, ways: Mapping[str, Way]) -> str | None:
    way = ways.get(release)
    before = ways.get(way.previous) if way and way.previous else None
    return way.previous if way and before and before.sequence >= way.floor else None
