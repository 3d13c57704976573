"""Readings of the machine itself, and which of them a release must not leave behind."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from topics.messages import Health, Probes

MIN_DISK_FREE: Final = 16 * 1024 * 1024
MAX_MEMORY_USED: Final = 0.98
MAX_TEMPERATURE: Final = 105.0
"""°C; boards throttle far below and switch off about here."""


def read(folder: Path, restarts: int = 0) -> Probes:
    """Return the readings; disk is that which holds `folder`. A sensor that is not there reads as None."""
    import psutil

    disk = psutil.disk_usage(str(folder))
    memory = psutil.virtual_memory()
    return Probes(
        cpu_load=os.getloadavg()[0] / (os.cpu_count() or 1),
        memory_used=memory.percent / 100,
        disk_used=disk.percent / 100,
        disk_free=disk.free,
        temperature=_temperature(),
        uptime=max(0, int(time.clock_gettime(time.CLOCK_BOOTTIME))),
        restarts=restarts,
    )


def problem(probes: Probes) -> str:
    """Return what is wrong with the machine in one sentence, "" when nothing is."""
    if probes.disk_free < MIN_DISK_FREE:
        return f"only {probes.disk_free // 1024} KiB of disk are free"
    if probes.memory_used > MAX_MEMORY_USED:
        return f"{probes.memory_used:.0%} of memory are used"
    if probes.temperature is not None and probes.temperature > MAX_TEMPERATURE:
        return f"the machine is at {probes.temperature:.0f} °C"
    return ""


def health(probes: Probes, service: str, *, hindered: bool = False) -> Health:
    """Return the one word of a heartbeat: `failing` when the release does not run; `hindered` by a disk that takes
    nothing, as one that is over its quota or read-only, the device is degraded whatever was read."""
    if service:
        return "failing"
    return "degraded" if hindered or problem(probes) else "ok"


def _temperature() -> float | None:
    import psutil

    try:
        sensors = psutil.sensors_temperatures()
    except (AttributeError, OSError):
        return None
    readings = [entry.current for entries in sensors.values() for entry in entries if entry.current]
    return max(readings, default=None)
