"""Walking along a chain of roots."""

from __future__ import annotations

from collections.abc import Iterable

from topics import trust
from topics.trust import TrustState


def walk(state: TrustState, roots: Iterable[bytes]) -> TrustState:
    """Return `state` under the last of `roots` (oldest first) that follow on its own; raises `TrustError`.

    Roots that were passed already travel on for devices further behind, and say nothing new.
    """
    for data in roots:
        if trust.open_root(data).version > state.root.version:
            state = trust.advance_root(state, data)
    return state
