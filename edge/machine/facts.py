"""The device's own facts, as `decide` wants them; agent and update process build them the same way."""

from __future__ import annotations

from edge import VERSION
from edge.beliefs import Beliefs
from edge.config import Settings
from edge.identity.identity import Device
from edge.machine.clock import zones
from edge.storage.state import State
from topics.eligibility import Decision, Facts, decide
from topics.trust import Clock


def of(
    device: Device,
    settings: Settings,
    beliefs: Beliefs,
    state: State,
    *,
    retry: str | None,
    refused: str = "",
) -> Facts:
    """Return what this device knows of itself. `retry` is the release that a `redeploy` names."""
    running = state.running.release if state.running else None
    return Facts(
        device_id=device.device_id,
        role=beliefs.memory.role,
        segment=beliefs.memory.segment,
        hardware=device.hardware,
        agent_version=VERSION,
        running=running.id if running else None,
        running_sequence=running.sequence if running else 0,
        running_role=running.role if running else None,
        failed=tuple(state.failed),
        floor=beliefs.memory.trust.floor(beliefs.memory.role),
        safe_mode=bool(state.safe_mode),
        zone=settings.zone,
        retry=retry,
        refused=refused,
    )


def verdict(beliefs: Beliefs, facts: Facts, clock: Clock) -> Decision:
    """Return what the device should do now."""
    now = beliefs.memory.trust.time(clock)
    return decide(beliefs.memory.trust, beliefs.manifest, beliefs.desired, facts, now, zones)
