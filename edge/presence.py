"""What a device says of its own being there: online, asleep until then, or offline, which is also its last will."""

from __future__ import annotations

from typing import Literal

from edge.storage.memory import Memory
from topics.messages import Presence


def build(
    known: Memory, what: Literal["online", "sleeping", "offline"], at: int, *, next_wake: int = 0
) -> Presence:
    """Return the presence of the present connection at `at` (s, 0 for a will, of which nobody knows when it comes)."""
    return Presence(boot=known.boot, session=known.session, state=what, at=max(0, at), next_wake=next_wake)
