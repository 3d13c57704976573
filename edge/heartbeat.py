"""The heartbeat: every fact that `decide` needs, so that the hub can answer for this device."""

from __future__ import annotations

from edge import VERSION, beliefs
from edge.beliefs import Beliefs
from edge.config import Settings
from edge.identity.identity import Device
from edge.machine import probes
from edge.storage.state import State
from topics.eligibility import Decision
from topics.messages import Attempt, Probes, Running, Status, Verdict
from topics.trust import Clock


def build(
    device: Device,
    settings: Settings,
    held: Beliefs,
    state: State,
    verdict: Decision,
    *,
    readings: Probes,
    seq: int,
    clock: Clock,
    spool_depth: int,
    hindered: bool = False,
) -> Status:
    """Return the heartbeat numbered `seq` of this start of the agent; `hindered` says that its disk takes
    nothing, or that its certificate is not renewed."""
    known, running, attempt = held.memory, state.running, state.update
    _, manifest_topic, desired_topic = beliefs.topics_of(known, device.device_id)
    lock = held.desired.version_lock if held.desired else None
    return Status(
        boot=known.boot,
        at=max(0, clock.now // 1000),
        clock_ok=clock.ok,
        seq=seq,
        role=known.role,
        segment=known.segment,
        agent_version=VERSION,
        health=probes.health(readings, state.service, hindered=hindered),
        running=Running(
            id=running.release.id,
            sequence=running.release.sequence,
            since=running.since,
            role=running.release.role if running.release.role != known.role else None,
        )
        if running
        else None,
        attempt=Attempt(release=attempt.release.id, n=attempt.attempt, state=attempt.state)
        if attempt
        else None,
        failed=list(state.failed),
        floor=known.trust.floor(known.role),
        hardware=device.hardware,
        zone=settings.zone,
        version_lock=lock.id if lock else None,
        maintenance=held.desired.desired.maintenance if held.desired else False,
        safe_mode=bool(state.safe_mode),
        trusted_root=known.trust.root.version,
        trusted_manifest=known.trust.issued_at(manifest_topic),
        trusted_desired=known.trust.issued_at(desired_topic),
        verdict=Verdict(
            reason=verdict.reason,
            release=verdict.release.id if verdict.release else None,
            check=verdict.check,
        ),
        probes=readings,
        spool_depth=spool_depth,
    )
