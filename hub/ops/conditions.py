"""The one condition by which a device is coloured: of all that holds for it, what an operator should see first.

Each has a letter, so that a hundred thousand devices are one text.
"""

from __future__ import annotations

from typing import Final

from hub.presence import IN_SAFE_MODE, PRESENCE

CONDITIONS: Final = {
    "quarantined": "q",
    "safe_mode": "m",
    "drifted": "d",
    "failing": "f",
    "silent": "s",
    "offline": "o",
    "unknown": "u",
    "degraded": "w",
    "sleeping": "z",
    "online": "n",
}
"""Conditions and their letters, the worst first. `silent` missed its heartbeats, `offline` said or lost goodbye."""

FLAGS: Final = f"""
    {PRESENCE} AS presence,
    COALESCE(device_latest.health, 'unknown') AS health,
    COALESCE(device_latest.running, '') AS running,
    CASE WHEN presence.state = 'offline' THEN 1 ELSE 0 END AS left_us,
    CASE WHEN drifting.device_key IS NULL THEN 0 ELSE 1 END AS drifted,
    CASE WHEN {IN_SAFE_MODE} THEN 1 ELSE 0 END AS safe_mode,
    CASE WHEN devices.quarantine_rule <> '' THEN 1 ELSE 0 END AS quarantined
"""
TABLES: Final = """
devices LEFT JOIN device_latest ON device_latest.device_key = devices.key
LEFT JOIN presence ON presence.device_key = devices.key
LEFT JOIN drifting ON drifting.device_key = devices.key
"""


def condition(
    *, presence: str, health: str, left_us: bool, drifted: bool, safe_mode: bool, quarantined: bool
) -> str:
    """Return the name of the condition that a device is shown in. The first that holds:

    1. `quarantined`, `safe_mode`, `drifted`: somebody has to do something, whether or not it is there.
    2. `failing`, of a device that can be heard: what it last said of itself is not news of one that cannot.
    3. `silent`, `offline`, `unknown`: nobody hears it.
    4. `degraded`, then `sleeping` or `online`.
    """
    for holds, name in ((quarantined, "quarantined"), (safe_mode, "safe_mode"), (drifted, "drifted")):
        if holds:
            return name
    if presence == "offline":
        return "offline" if left_us else "silent"
    if presence == "unknown":
        return "unknown"
    return health if health in ("failing", "degraded") else presence
