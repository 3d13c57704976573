"""Signed documents that were checked once, remembered by their bytes.

A signature takes a tenth of a millisecond to check, and one question about eligibility stands on four of them. The
bytes are read from the store each time, so nothing is believed for longer than it stands there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from topics import trust
from topics.documents import Release
from topics.trust import Clock, TrustedDesired, TrustedManifest, TrustState

HOUR_MS: Final = 3_600_000
"""To the hour it is told whether a document is a day ahead of the clock."""


@lru_cache(maxsize=4)
def root(data: bytes) -> TrustState:
    """Return what a device believes that knows this root and nothing else. Raises `TrustError`, as all here do."""
    return TrustState(trust.open_root(data), data)


def release(state: TrustState, data: bytes) -> Release:
    """See `topics.trust.open_release`."""
    return _release(state.root_bytes, data)


def manifest(state: TrustState, topic: str, data: bytes, now: int) -> tuple[TrustState, TrustedManifest]:
    """See `topics.trust.accept_manifest`; `now` in ms. The state is one that has seen this manifest alone."""
    return _manifest(state.root_bytes, topic, data, now // HOUR_MS)


def desired(state: TrustState, topic: str, data: bytes, now: int) -> tuple[TrustState, TrustedDesired]:
    """See `topics.trust.accept_desired`; `now` in ms. The state is one that has seen this document alone."""
    return _desired(state.root_bytes, topic, data, now // HOUR_MS)


def floors(*states: TrustState) -> TrustState:
    """Return the first of `states`, all under one root, with the highest floors that any of them has seen."""
    highest: dict[str, int] = {}
    if not any(state.floors for state in states[1:]):
        return states[0]
    for state in states:
        for role, floor in state.floors.items():
            highest[role] = max(floor, highest.get(role, 0))
    return TrustState(states[0].root, states[0].root_bytes, states[0].marks, highest)


@lru_cache(maxsize=256)
def _release(root_bytes: bytes, data: bytes) -> Release:
    return trust.open_release(root(root_bytes).root, data)


@lru_cache(maxsize=256)
def _manifest(root_bytes: bytes, topic: str, data: bytes, hour: int) -> tuple[TrustState, TrustedManifest]:
    return trust.accept_manifest(root(root_bytes), topic, data, Clock(hour * HOUR_MS, True))


@lru_cache(maxsize=2048)
def _desired(root_bytes: bytes, topic: str, data: bytes, hour: int) -> tuple[TrustState, TrustedDesired]:
    return trust.accept_desired(root(root_bytes), topic, data, Clock(hour * HOUR_MS, True))
