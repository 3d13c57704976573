"""Heartbeats made up by hypothesis. Readings are whole 64ths, so that sums are exact in any order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from tests.support.uplinks import status
from topics.messages import Probes, Status

NOW = 1_790_000_000
FREELY = settings(deadline=None, max_examples=150, derandomize=True, database=None)
"""The same examples everywhere, and none is judged by how long it takes."""

shares = st.integers(-64, 640).map(lambda n: n / 64)
degrees = st.integers(-40 * 64, 120 * 64).map(lambda n: n / 64)
probes = st.builds(
    Probes, cpu_load=shares, memory_used=shares, disk_used=shares, temperature=st.none() | degrees
)
healths = st.sampled_from(("ok", "ok", "ok", "degraded", "failing"))


def statuses(seq: st.SearchStrategy[int], at: st.SearchStrategy[int]) -> st.SearchStrategy[Status]:
    """Heartbeats with numbers and times of one's own."""
    return st.builds(status, seq, at=at, health=healths, probes=st.none() | probes)
