"""How often a device that has nothing to do wakes up."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from edge.config import Settings
from edge.machine.clock import SystemClock
from tests.edge.world import Box, Source, build

HOUR = 3600
LOOK_SECONDS = 3.0


class SetClock(SystemClock):
    """A clock that never steps by itself; the wall clock stays the system's."""

    now = 10_000.0

    def steady(self) -> float:
        return self.now


class Idle(Box):
    """A device with a release that runs, and nothing new to hear. Looks after it take some seconds."""

    def __init__(self, root: Path, source: Source, **settings: float) -> None:
        super().__init__(root, source, Settings(**settings))  # type: ignore[arg-type]
        self.clock = self.set = SetClock()
        self.start()
        self.online()
        self.offer(build())
        self.receipt_all()

    def leave(self, seconds: float) -> int:
        """Leave it alone; return how often its timers woke it."""
        wakes, end = 0, self.set.now + seconds
        while (deadline := self.agent.deadline) is not None and deadline <= end:
            wakes += 1
            self.set.now = deadline
            self.agent.tick()
            if self.jobs.busy:
                self.set.now += LOOK_SECONDS
                self.jobs.run()
                self.agent.on_job_end(0)
        self.set.now = end
        return wakes


@pytest.mark.parametrize(
    ("heartbeat", "look", "wakes", "looks"),
    [
        pytest.param(300, 300, 12, 12, id="as often as heartbeats"),
        pytest.param(300, 3600, 12, 1, id="once in many heartbeats"),
        pytest.param(1200, 300, 12, 12, id="several between two heartbeats"),
    ],
)
def test_the_running_release_is_looked_at_when_a_heartbeat_wakes_the_device_anyway(
    tmp_path: Path, source: Source, heartbeat: float, look: float, wakes: int, looks: int
) -> None:
    with closing(Idle(tmp_path, source, heartbeat_seconds=heartbeat, check_seconds=look)) as device:
        device.leave(HOUR)  # until both have found each other
        device.link.sent.clear()
        device.jobs.starts = 0
        assert device.leave(HOUR) == wakes
        assert len(device.link.of("status")) == HOUR // heartbeat
        assert device.jobs.starts == looks
