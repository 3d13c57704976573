"""When the power is cut, and what must be so after it. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

AGAIN: Final = 0.3
"""Chance that an update whose power was cut has it cut once more."""
ENDED: Final = ("committed", "failed", "rolled_back", "refused")


class Cut(NamedTuple):
    """One power cut: `number` of the run, in update `update`, the `again`-th of it after the first (0), at the part
    `moment` (0 to 1) of the time that is drawn from."""

    number: int
    update: int
    again: int
    moment: float


def plan(seed: int, cuts: int) -> list[list[Cut]]:
    """Return the cuts of each update of a run, `cuts` in all; the same `seed` gives the same."""
    chance = random.Random(seed)
    updates: list[list[Cut]] = []
    for number in range(1, cuts + 1):
        if not updates or chance.random() >= AGAIN:
            updates.append([])
        updates[-1].append(Cut(number, len(updates), len(updates[-1]), round(chance.random(), 4)))
    return updates


def at_boot(seen: Mapping[str, Any], old: str, new: str) -> list[str]:
    """Return what is wrong with a disk as the next boot finds it, before the agent has started. Rules:

    1. `current` points to the old release or the new one.
    2. What it points to is whole: every byte as signed, nothing missing, nothing more.
    3. What counts as committed is one of the two, and while no update is under way `current` points to it.
    4. The device is not in safe mode: a power cut is no failure of a release.
    """
    faults = []
    if seen["current"] not in (old, new):
        faults.append(f"current is {seen['current']}, neither {old} nor {new}")
    if seen["broken"]:
        faults.append(f"{seen['current']} is not whole: {seen['broken']}")
    if seen["running"] not in (old, new):
        faults.append(f"{seen['running']} counts as running, neither {old} nor {new}")
    if seen["state"] in (None, *ENDED) and seen["current"] != seen["running"]:
        faults.append(f"no update is under way, and current is {seen['current']}, not {seen['running']}")
    if seen["safe_mode"]:
        faults.append(f"the device is in safe mode ({seen['safe_mode']})")
    return faults


def is_there(seen: Mapping[str, Any], new: str) -> bool:
    """Whether the device has arrived at `new`: committed, current and served."""
    return (seen["update"], seen["state"]) == (new, "committed") and seen["running"] == seen[
        "current"
    ] == seen["served"] == new


def record_faults(device: Mapping[str, Any], row: Mapping[str, Any], new: str) -> list[str]:
    """Return what is wrong with the hub's record of the device and of the rollout of `new`, once it is there. Rules:

    1. The device runs the release, is healthy and online.
    2. The rollout has one device that began and one that committed: no cut and no second try counts twice, and a
       failure that was made good is none.
    """
    found = {name: device.get(name) for name in ("running", "presence")} | {
        name: row.get(name) for name in ("began", "committed", "failed", "rolled_back", "in_progress", "lost")
    }
    wanted = {
        "running": new,
        "presence": "online",
        "began": 1,
        "committed": 1,
        "failed": 0,
        "rolled_back": 0,
        "in_progress": 0,
        "lost": 0,
    }
    return [
        f"the hub says {name} is {found[name]!r}, not {value!r}"
        for name, value in wanted.items()
        if found[name] != value
    ]


def stand(seen: Mapping[str, Any], new: str) -> str:
    """Return where the update to `new` stood on the disk."""
    return str(seen["state"]) if seen["update"] == new else "not begun"


def ending(found: Mapping[str, Any], end: Mapping[str, Any], new: str) -> str:
    """Say how the update to `new` came from what was `found` at boot to its `end`."""
    if found["update"] != new:
        return "begun then"
    if found["attempt"] == end["attempt"]:
        return "was done" if found["state"] == "committed" else "finished"
    return f"undone, done at attempt {end['attempt']}"
