"""When the running release is inspected for drift, and what is reported of it. Pure; `now` is the wall clock in s."""

from __future__ import annotations

import hashlib
from typing import Final

from edge.drift.files import MAX_ITEMS
from edge.storage import records, state
from edge.storage.state import State
from topics import codec
from topics.messages import Boot, Drift, DriftItem

SPREAD: Final = 0.25
"""Share of the interval by which an inspection comes earlier or later, so that a fleet's disks are not busy at once."""


def is_due(base: State, now: int, interval: float) -> bool:
    """Whether to inspect now: by order, or when the time has come; `interval` 0 is never by itself.

    A time that is further off than any that was ever set is due: the clock stood wrong when it was set.
    """
    if base.inspect:
        return True
    at = base.inspect_at
    return bool(interval and at) and (now >= at or at > now + 2 * interval)


def planned(base: State, now: int, interval: float, share: float) -> State:
    """Return `base` with the time of its next inspection; `share` (0 to 1) is random.

    The first is anywhere in the interval, so that a fleet enrolled in one hour is not inspected in one hour.
    """
    if not interval:
        return records.changed(base, inspect_at=0)
    wait = interval * (1 - SPREAD + 2 * SPREAD * share) if base.inspect_at else interval * share
    return records.changed(base, inspect_at=now + max(1, int(wait)))


def reported(base: State, found: list[DriftItem], left: list[DriftItem], now: int, boot: Boot) -> State:
    """Return `base` with the inspection done, and its report unless the hub knows that already.

    `found` is what differed, `left` what still does after a repair. An ordered inspection is always reported; one that
    came by itself when it differs from the last that was.
    """
    digest = _digest(base, left)
    done = records.changed(base, inspect="", drifted=digest)
    if not base.inspect and digest == base.drifted:
        return done
    repaired = bool(found) and not left
    shown = found if repaired else left
    report = Drift(
        boot=boot,
        at=max(0, now),
        spool=state.NO_SPOOL,
        n=1,
        release=base.running_id,
        items=shown[:MAX_ITEMS],
        more=max(0, len(shown) - MAX_ITEMS),
        repaired=repaired,
    )
    return state.with_report(done, report)


def _digest(base: State, items: list[DriftItem]) -> str:
    if not items:
        return ""
    told = (base.running_id or "").encode() + b"".join(codec.encode(item) for item in items)
    return hashlib.sha256(told).hexdigest()[:32]
