"""What becomes of one device with one release: decided by a seed, so that a rehearsal can be repeated. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple

SLOW_FACTOR: Final = 10.0
"""How many times longer a slow device takes for every step."""


@dataclass(frozen=True, slots=True)
class Odds:
    """Shares (0 to 1) of devices that a release fails on, that are slow, that go dark in the middle of the update.

    `step_seconds` is how long one of the four steps takes on average; each takes between half and one and a half
    of it.
    """

    fail: float = 0.0
    slow: float = 0.0
    offline: float = 0.0
    step_seconds: float = 1.0


class Fate(NamedTuple):
    """The outcome, and how long (s) each step takes."""

    fails: bool
    slow: bool
    goes_dark: bool
    download: float
    stage: float
    activate: float
    probation: float


def fate(odds: Odds, seed: int, device_id: str, release_id: str) -> Fate:
    """Return what becomes of the device with the release; the same for the same seed, however often it tries.

    Each share is a draw of its own, so raising one moves no device of another.
    """
    digest = hashlib.sha512(f"{seed}:{device_id}:{release_id}".encode()).digest()
    draws = [int.from_bytes(digest[at : at + 8], "big") / 2**64 for at in range(0, 56, 8)]
    slow = draws[1] < odds.slow
    step = odds.step_seconds * (SLOW_FACTOR if slow else 1.0)
    times = [step * (0.5 + draw) for draw in draws[3:7]]
    return Fate(draws[0] < odds.fail, slow, draws[2] < odds.offline, *times)
