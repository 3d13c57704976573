"""Which way to the hub: MQTT, or HTTPS where MQTT is blocked. Pure.

Rules, for `transport` = `auto`; `mqtt` and `https` are taken at their word:

1. MQTT comes first.
2. HTTPS is taken when MQTT failed `FAILURES` times in a row and for `fallback_seconds`: a broker that only starts
   anew must not send its whole fleet to the hub. A device that wakes for a moment (`once`) has no such patience, and
   takes it after the first failure.
3. A connection over MQTT that lasts less than `STABLE` seconds is a failure too: some networks let it begin.
4. That HTTPS works is what shows that MQTT is blocked. From then on MQTT is tried again after `mqtt_retry_seconds`,
   doubling up to `RETRY_CAP` while it stays blocked; half to the whole of each wait, by the device's own dice, so that
   a fleet does not come back at one moment. One failure sends it back to HTTPS.
5. When HTTPS does not work either, it is the network: MQTT's turn again, one after the other.
6. A connection over HTTPS that worked and broke is made anew over HTTPS.
7. MQTT that has worked for `STABLE` seconds: all is forgotten.
8. There is one connection at a time, so nothing is told twice.

Times are seconds since the epoch, since this outlives the process. A clock that is set back makes no wait longer than
it was to be.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from edge.storage.records import changed

Way = Literal["mqtt", "https"]
Transport = Literal["auto", "mqtt", "https"]
FAILURES: Final = 5
STABLE: Final = 60.0
RETRY_CAP: Final = 6 * 3600.0


class Standing(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of the ways. `failures` of MQTT in a row, the first at `since`, the last for `reason`;
    MQTT was found blocked `times` in a row, and is tried again at `retry_at` (0: HTTPS has not worked yet)."""

    way: Way = "mqtt"
    failures: int = 0
    since: float = 0.0
    reason: str = ""
    times: int = 0
    retry_at: float = 0.0


def due(standing: Standing, now: float) -> float:
    """Return the seconds until MQTT is to be tried again, 0 for now."""
    return min(max(0.0, standing.retry_at - now), RETRY_CAP)


def choose(standing: Standing, transport: Transport, now: float) -> Way:
    """Return the way of the next connection."""
    if transport != "auto":
        return transport
    if standing.way == "https" and standing.retry_at and due(standing, now) <= 0:
        return "mqtt"
    return standing.way


def connected(standing: Standing, way: Way, now: float, *, retry_seconds: float, dice: float) -> Standing:
    """Return what a connection shows. `dice` is a random number from 0 to 1."""
    if way == "mqtt":
        return changed(standing, way="mqtt", retry_at=0.0)
    if standing.retry_at:
        return standing
    times = standing.times + 1
    wait = min(retry_seconds * 2.0 ** min(times - 1, 30), RETRY_CAP) * (0.5 + dice / 2)
    return changed(standing, way="https", times=times, retry_at=now + wait)


def lost(
    standing: Standing,
    way: Way,
    reason: str,
    now: float,
    *,
    lasted: float | None,
    fallback_seconds: float,
    hurried: bool,
) -> Standing:
    """Return what the end of a connection shows; `lasted` is None when it was not made. `hurried` is `once`."""
    if way == "https":
        return standing if lasted is not None else changed(standing, way="mqtt", retry_at=0.0)
    if lasted is not None and lasted >= STABLE:
        return Standing()
    failures = standing.failures + 1
    since = standing.since if 0 < standing.since <= now else now
    blocked = hurried or (failures >= FAILURES and now - since >= fallback_seconds)
    return changed(
        standing,
        way="https" if blocked else "mqtt",
        failures=failures,
        since=since,
        reason=reason,
        retry_at=0.0,
    )
