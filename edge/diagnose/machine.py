"""The machine: clock, disk, memory, heat. Pure rules over readings, and the readings."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edge.diagnose.finding import Finding, failed, graded, passed, warned
from edge.machine import clock, probes
from topics.messages import Probes

MIB: Final = 1024 * 1024
DISK_WARN: Final = 128 * MIB
INODES_WARN, INODES_FAIL = 2000, 100
MEMORY_WARN: Final = 0.9
HOT: Final = 85.0
"""°C at which boards begin to slow down."""
LOAD_WARN: Final = 4.0
"""Processes that wait for each processor."""
_UNSYNCHRONISED: Final = 5  # TIME_ERROR of adjtimex(2)
_VCGENCMD: Final = Path("sys/devices/platform/soc/soc:firmware/get_throttled")


@dataclass(frozen=True, slots=True)
class Readings:
    """What was read. `wall` and `newest` (the newest document trusted, 0 for none) are ms; `synchronised` and
    `throttled` are None where the machine does not tell."""

    wall: int
    newest: int
    synchronised: bool | None
    probes: Probes
    inodes: int
    read_only: bool
    throttled: str | None


def read(root: Path, *, wall: int, newest: int, system: Path = Path("/")) -> Readings:
    """Return the readings; the disk is that of the first folder above `root` that is there. Raises `OSError`."""
    folder = standing(root)
    status = os.statvfs(folder)
    return Readings(
        wall=wall,
        newest=newest,
        synchronised=_synchronised(),
        probes=probes.read(folder),
        # File systems that have no fixed number of files say 0 of both.
        inodes=status.f_favail if status.f_files else INODES_WARN,
        read_only=bool(status.f_flag & os.ST_RDONLY),
        throttled=_throttled(system),
    )


def standing(root: Path) -> Path:
    """Return `root`, or the first folder above it that is there and that this user can see."""

    def is_seen(path: Path) -> bool:
        try:
            return path.exists()
        except OSError:
            return False

    return next(path for path in (root, *root.parents) if is_seen(path))


def check(now: Readings) -> list[Finding]:
    """Return what the readings say. Pure."""
    return [_clock(now), _kept(now), *_disk(now), *_load(now), _heat(now), _power(now)]


def _clock(now: Readings) -> Finding:
    here = datetime.fromtimestamp(now.wall // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    remedy = (
        "Set the clock (timedatectl set-time, or a time server that can be reached); until then dates in certificates "
        "are not checked."
    )
    if now.wall < clock.PLAUSIBLE_MS:
        return failed("clock", f"{here} is before this system existed", remedy)
    if now.wall < now.newest - clock.BEHIND_MS:
        return failed("clock", f"{here} is more than a day behind the newest document trusted", remedy)
    return passed("clock", here)


def _kept(now: Readings) -> Finding:
    if now.synchronised is None:
        return passed("clock kept", "the system does not tell")
    if now.synchronised:
        return passed("clock kept", "by a time server")
    return warned(
        "clock kept",
        "no time server keeps the clock",
        "Turn on a time service (timedatectl set-ntp true) and let it reach its server.",
    )


def _disk(now: Readings) -> list[Finding]:
    free = now.probes.disk_free
    return [
        graded(
            "disk space",
            f"{free // MIB} MiB free",
            "Remove what does not belong on this disk; an update needs room for a second release.",
            fail=free < probes.MIN_DISK_FREE,
            warn=free < DISK_WARN,
        ),
        graded(
            "disk files",
            f"room for {now.inodes} files or more",
            "Remove folders of many small files; the disk can hold no more of them.",
            fail=now.inodes < INODES_FAIL,
            warn=now.inodes < INODES_WARN,
        ),
        graded(
            "disk health",
            "mounted read-only" if now.read_only else "takes writes",
            "See dmesg for errors of the disk, after which Linux takes no more writes, and replace it.",
            fail=now.read_only,
            warn=False,
        ),
    ]


def _load(now: Readings) -> list[Finding]:
    used, load = now.probes.memory_used, now.probes.cpu_load
    return [
        graded(
            "memory",
            f"{used:.0%} used",
            "See with top who uses it; the release may be leaking.",
            fail=used > probes.MAX_MEMORY_USED,
            warn=used > MEMORY_WARN,
        ),
        graded(
            "load",
            f"{load:.2f} a processor",
            "See with top who is busy.",
            fail=False,
            warn=load > LOAD_WARN,
        ),
    ]


def _heat(now: Readings) -> Finding:
    heat = now.probes.temperature
    if heat is None:
        return passed("temperature", "no sensor")
    return graded(
        "temperature",
        f"{heat:.0f} °C",
        "Give the device air, or a cooler.",
        fail=heat > probes.MAX_TEMPERATURE,
        warn=heat > HOT,
    )


def _power(now: Readings) -> Finding:
    if now.throttled is None:
        return passed("throttling", "no sensor")
    return graded(
        "throttling",
        now.throttled or "not slowed down",
        "Give the device a stronger power supply and a short cable, and air.",
        fail=False,
        warn=bool(now.throttled),
    )


def _synchronised() -> bool | None:
    # struct timex is 208 bytes at most; with modes 0 it is only read.
    buffer = ctypes.create_string_buffer(512)
    answer = ctypes.CDLL(None).adjtimex(buffer)
    return None if answer < 0 else answer != _UNSYNCHRONISED


def _throttled(system: Path) -> str | None:
    """Return why the processor runs slower, "" if it does not; Raspberry Pi first, then what other boards tell."""
    try:
        bits = int((system / _VCGENCMD).read_text(encoding="ascii"), 16)
    except (OSError, ValueError):
        pass
    else:
        words = {0: "too little voltage now", 2: "slowed down now", 16: "too little voltage since boot"}
        return ", ".join(word for bit, word in words.items() if bits >> bit & 1)
    counts = [
        int(path.read_text(encoding="ascii"))
        for path in system.glob("sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count")
    ]
    if not counts:
        return None
    return f"slowed down {sum(counts)} times since boot" if sum(counts) else ""
