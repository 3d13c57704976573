"""Where a random rollout begins: releases, places of devices, policies, and what may go wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hypothesis import strategies as st

from hub.deployment.policy import FailurePolicy, Policy, SegmentPolicy
from tests.hub.world import World
from tests.rollouts.device import Aftermath, End
from topics.documents import Requires
from topics.names import SEGMENTS

RELEASES = 4
PLACES = ("canary", "canary", "canary", "early", "early", "general", "general")
IN_MEMORY: Final = Path("/dev/shm")
"""Thousands of transactions, each forced to disk, say nothing more here."""
STARTS: Final[tuple[tuple[int, ...], ...]] = ((), (1,), (1, 3), (1, 3))
"""Releases that completed before anything happens, one after the other."""
AWAY: Final = (1, 4)
"""Devices that have not heard of the second of them: they are led through it to a release that requires it. None of the
last segment, for which its completion would wait."""
OFFERED = ("rolling", "paused", "halted")

devices = st.integers(0, len(PLACES) - 1)
releases = st.integers(1, RELEASES)
seeds = st.integers(0, 2**32)
ENDS: Final[tuple[End | None, ...]] = ("failed", "failed_here", "rolled_back", "rolled_back", None)
"""What is not well; None is silence in the middle of it."""
found: st.SearchStrategy[Aftermath | None] = st.sampled_from(
    [None, None, None, "drift", "repaired", "safe_mode", "ordered"]
)
policies = st.builds(
    Policy,
    advance=st.sampled_from(["by_hand", "automatic", "automatic"]),
    segments=st.fixed_dictionaries(
        {
            name: st.builds(
                SegmentPolicy,
                least_wait_seconds=st.sampled_from([0, 0, 60]),
                least_reports=st.integers(1, 2),
                success_ratio=st.sampled_from([0.5, 0.67, 1.0]),
                steps=st.sampled_from([[], [], [30, 100], [40, 60, 100]]),
            )
            for name in SEGMENTS
        }
    ),
    failure=st.builds(
        FailurePolicy,
        max_ratio=st.sampled_from([0.0, 0.33, 0.5, 1.0]),
        min_reports=st.integers(1, 3),
        max_count=st.sampled_from([None, None, 0, 1]),
        update_timeout_seconds=st.sampled_from([10, 60]),
    ),
)


def release_id(sequence: int) -> str:
    """Id of the release that the template holds under a sequence."""
    return f"kiosk-{sequence}-{'a' * 12}"


def template(folder: Path) -> None:
    """Make what every run begins with: releases, and registered devices of which some are without heartbeat yet."""
    world = World(folder)
    with world.client:
        world.trust_root()
        for sequence in range(1, RELEASES + 1):
            hardware = ["pi4"] if sequence == 2 else []
            # Who runs an earlier one takes 3 on the way to 4, where that was completed, and else cannot.
            requires = Requires(hardware=hardware, from_sequence=3 if sequence == 4 else 0)
            world.publish(sequence, floor=2 if sequence == 3 else 0, requires=requires)
        for number, segment in enumerate(PLACES):
            world.device(f"dev-{number}", segment)
    world.close()
