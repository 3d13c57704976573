"""Who floods, and for how long the broker then passes on nothing of theirs. Pure: times and chance are arguments.

1. Counted is what one device sends within `WINDOW_S`. Of a large batch only `SAMPLE` messages are looked at, drawn by
   lot, so that counting costs a busy hub nothing.
2. More than `MOST` is a flood. No agent sends as much: it has 16 reports on their way, and each receipt waits for a
   commit, which makes 320 a second.
3. Only what is sent while the hub hears everything at once counts: a backlog of days says nothing about now.
4. A device that floods is held for `HOLD_S`, each further time twice as long up to `LONGEST_S`. After `LONGEST_S`
   without a flood it begins anew.

Times are seconds of a clock that is never set.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from hub.broker.arrivals import Uplink
from topics import names
from topics.errors import TopicError

WINDOW_S: Final = 10.0
MOST: Final = 5_000
SAMPLE: Final = 1_000
HOLD_S: Final = 60.0
LONGEST_S: Final = 3_600.0


class Floods:
    """Counts messages by device, window by window."""

    def __init__(self, fleet: str, chance: random.Random) -> None:
        self._prefix = f"{fleet}/v1/devices"
        self._chance = chance
        self._window: float | None = None
        self._counts: Counter[str] = Counter()

    def forget(self) -> None:
        """What comes from now on may have been sent long ago."""
        self._window = None

    def begin(self, at: float) -> None:
        """Everything sent so far has been heard, so what comes from now on is sent now."""
        if self._window is None:
            self._window, self._counts = at, Counter()

    def heard(self, arrivals: Sequence[Uplink], at: float) -> list[str]:
        """Return the ids of devices that flood, having heard `arrivals` at `at`."""
        if self._window is None:
            return []
        if at >= self._window + WINDOW_S:
            self._window, self._counts = at, Counter()
        drawn = self._chance.sample(arrivals, SAMPLE) if len(arrivals) > SAMPLE else arrivals
        senders = Counter(arrival.topic.rsplit("/", 2)[0] for arrival in drawn)
        found = []
        for sender, count in senders.items():
            self._counts[sender] += round(count * len(arrivals) / len(drawn))
            if self._counts[sender] > MOST:
                prefix, _, device_id = sender.rpartition("/")
                # Whoever is named goes into the broker's access list, so it must be a name.
                with suppress(TopicError):
                    found += [names.device_id(device_id)] if prefix == self._prefix else []
        return found


class Holds:
    """Which devices are held, and until when."""

    def __init__(self) -> None:
        self._ends: dict[str, tuple[float, float]] = {}
        """The end of each device's last hold, and how long it was."""

    def hold(self, device_id: str, at: float) -> float:
        """Hold a device from `at` on; returns for how many seconds, 0 if it is held already."""
        self._ends = {one: (end, length) for one, (end, length) in self._ends.items() if at < end + LONGEST_S}
        end, length = self._ends.get(device_id, (at, 0.0))
        if at < end:
            return 0.0
        length = min(LONGEST_S, length * 2 or HOLD_S)
        self._ends[device_id] = (at + length, length)
        return length

    def held(self, at: float) -> list[str]:
        """Return who is held at `at`."""
        return sorted(one for one, (end, _) in self._ends.items() if at < end)

    def next_end(self, at: float) -> float | None:
        """Return in how many seconds from `at` the next hold ends, None if there is none."""
        return min((end - at for end, _ in self._ends.values() if at < end), default=None)
