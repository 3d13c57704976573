"""How many devices stand at once, as SQL.

`PRESENCE` is the rule of `hub.registry.rules.presence`; a test holds the two together. `IN_SAFE_MODE` is what a device
says, what it was ordered, and what it is held back for until it is known to be well.

For queries over `devices` with `device_latest` and `presence` joined, and `:now` in ms.
"""

from __future__ import annotations

from typing import Final

SILENT_AFTER: Final = 3
"""Heartbeats a device may miss before it is shown as offline."""
PRESENCES: Final = ("online", "sleeping", "offline", "unknown")

# CASE in place of MAX(a, b), which PostgreSQL calls GREATEST.
PRESENCE: Final = f"""
CASE
    WHEN presence.state IS NULL AND device_latest.received_at IS NULL THEN 'unknown'
    WHEN presence.state = 'offline' THEN 'offline'
    WHEN COALESCE(device_latest.received_at, 0) < :now - {SILENT_AFTER * 1000} * devices.update_interval
        AND COALESCE(presence.received_at, 0) < :now - {SILENT_AFTER * 1000} * devices.update_interval
        AND CASE WHEN presence.state = 'sleeping' THEN presence.next_wake * 1000 ELSE 0 END
            < :now - {SILENT_AFTER * 1000} * devices.update_interval THEN 'offline'
    WHEN presence.state = 'sleeping' THEN 'sleeping'
    ELSE 'online'
END
"""
IN_SAFE_MODE: Final = """
(devices.safe_mode = 'on' OR devices.quarantine_rule = 'safe_mode' OR COALESCE(device_latest.safe_mode, 0) = 1)
"""
