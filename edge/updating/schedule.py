"""When a device may start what it is eligible for: its place in the spread, or its turn to try again."""

from __future__ import annotations

import math
import random
from collections.abc import Hashable

from edge.beliefs import Beliefs
from edge.config import Settings
from edge.storage.state import State
from topics.eligibility import BUCKETS, Decision, bucket


def wait(
    held: Beliefs,
    state: State,
    decision: Decision,
    settings: Settings,
    *,
    device_id: str,
    now: int,
    wall: int,
) -> float:
    """Return the seconds until an eligible device may start; 0 or less for at once.

    1. After an attempt at the same release that ended by itself: the retry pause, doubling per attempt, from
       the end of that attempt (`wall`, ms). One that the hub had stopped waits for nothing.
    2. What the hub ordered (a rollback or a lock) starts at once.
    3. Else the device's own place in `spread_seconds` after the manifest was issued (`now`, ms).
    """
    release, manifest = decision.release, held.manifest
    if release is None or manifest is None:
        return 0.0
    last = state.update
    if last is not None and last.release.id == release.id and last.state in ("failed", "rolled_back"):
        if last.cause == "ordered":
            return 0.0
        pause = min(settings.retry_base_seconds * 2.0 ** min(last.tries, 20), settings.retry_cap_seconds)
        # A clock that was set back meanwhile must not make the pause longer than it is, nor, by `Pause`, repeat it.
        return min(last.entered / 1000 + pause - wall / 1000, pause)
    if decision.ordered:
        return 0.0
    spread = manifest.manifest.spread_seconds
    place = spread * bucket(release.id, device_id) / BUCKETS
    return min(place - (now - manifest.manifest.issued_at) / 1000, float(spread))


class Pause:
    """What is left of a wait, by the monotonic clock: a wall clock that was set back would have it begin anew, at each
    look, until that clock has come to where the wait began."""

    def __init__(self) -> None:
        self._what: Hashable = None
        self._until = 0.0

    def wait(
        self,
        held: Beliefs,
        state: State,
        decision: Decision,
        settings: Settings,
        *,
        device_id: str,
        now: int,
        wall: int,
        steady: float,
    ) -> float:
        """Return the seconds left at `steady` (s, monotonic) of what `wait` says."""
        seconds = wait(held, state, decision, settings, device_id=device_id, now=now, wall=wall)
        release, last = decision.release, state.update
        what = (release and release.id, last and last.attempt, held.memory.manifest)
        if what != self._what:
            self._what, self._until = what, steady + seconds
        self._until = min(self._until, steady + seconds)
        return self._until - steady


def next_heartbeat(device_id: str, now: float, interval: float) -> float:
    """Return when the next regular heartbeat is due: the device's own place in the interval, after `now` (s).

    What makes a whole fleet report at one moment (a broker that came back, a promotion) must not make it report at
    one moment ever after. So a heartbeat for a reason of its own does not move the regular ones.
    """
    place = bucket("heartbeat", device_id) / BUCKETS
    return (math.floor(now / interval - place) + 1 + place) * interval


def reconnect(settings: Settings, failures: int) -> float:
    """Return the wait in s before connecting again after `failures` connections in a row that did not last.

    Full jitter: a fleet that lost its broker at one moment must not come back at one.
    """
    cap = min(settings.backoff_base_seconds * 2.0 ** min(failures, 30), settings.backoff_cap_seconds)
    return random.random() * cap  # noqa: S311  (spreads load, guards nothing)


def jitter(settings: Settings, tries: int) -> float:
    """Return the wait in s before the update process is started again after it died `tries` times before."""
    cap = min(settings.respawn_seconds * 2.0 ** min(tries, 20), settings.backoff_cap_seconds)
    return cap * (0.5 + random.random() / 2)  # noqa: S311  (spreads load, guards nothing)
