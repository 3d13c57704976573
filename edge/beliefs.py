"""What the agent holds true: the memory with its signed documents opened, and the only way to change it.

`take` judges what arrives. News and repetitions are told apart, since a retained message comes again at
every connection; a refusal changes nothing that was believed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from edge.identity import trusting
from edge.storage import records
from edge.storage.memory import Memory
from topics import codec, trust
from topics.channels import DESIRED, MANIFEST, TRUST_ROOT, UPLINK_LIMIT
from topics.documents import RootChain
from topics.errors import DecodeError, TrustError
from topics.trust import Clock, TrustedDesired, TrustedManifest


@dataclass(frozen=True, slots=True)
class Beliefs:
    """Memory, and its documents if they still pass every check."""

    memory: Memory
    manifest: TrustedManifest | None = None
    desired: TrustedDesired | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A document that must not take effect: which check refused, and a name for exactly this case."""

    topic: str
    check: str
    detail: str
    key: str


def topics_of(memory: Memory, device_id: str) -> tuple[str, str, str]:
    """Return the topics of trust root, manifest and desired state of this device."""
    fleet = memory.trust.fleet
    return (
        TRUST_ROOT.topic(fleet),
        MANIFEST.topic(fleet, role=memory.role, segment=memory.segment),
        DESIRED.topic(fleet, id=device_id),
    )


def reopen(memory: Memory, device_id: str, clock: Clock) -> Beliefs:
    """Return what `memory` holds true; a stored document that no longer passes is left out."""
    _, manifest_topic, desired_topic = topics_of(memory, device_id)
    manifest = desired = None
    try:
        if memory.manifest:
            _, manifest = trust.accept_manifest(memory.trust, manifest_topic, memory.manifest, clock)
    except TrustError:
        manifest = None
    try:
        if memory.desired:
            _, desired = trust.accept_desired(memory.trust, desired_topic, memory.desired, clock)
    except TrustError:
        desired = None
    return Beliefs(memory, manifest, desired)


def take(beliefs: Beliefs, device_id: str, topic: str, body: bytes, clock: Clock) -> Beliefs | Refusal:
    """Return the beliefs after `body` arrived on `topic`, or why it is refused.

    The same object comes back when it is no news. A topic that is none of the device's own signed ones is
    refused as `addressee`.
    """
    root_topic, manifest_topic, _ = topics_of(beliefs.memory, device_id)
    try:
        if topic == root_topic:
            return _take_roots(beliefs, device_id, body, clock)
        if topic == manifest_topic:
            return _take_manifest(beliefs, topic, body, clock)
        # Also for any other topic: its check of the addressee refuses.
        return _take_desired(beliefs, device_id, topic, body, clock)
    except TrustError as error:
        digest = hashlib.sha256(b"\0".join([topic.encode(), error.check.encode(), body])).hexdigest()
        return Refusal(topic, error.check, error.detail, digest[:32])


def _take_roots(beliefs: Beliefs, device_id: str, body: bytes, clock: Clock) -> Beliefs:
    try:
        chain = codec.decode(body, RootChain, limit=UPLINK_LIMIT)
    except DecodeError as error:
        raise TrustError("malformed", str(error)) from None
    state = trusting.walk(beliefs.memory.trust, chain.roots)
    if state is beliefs.memory.trust:
        return beliefs
    return reopen(records.changed(beliefs.memory, trust=state), device_id, clock)


def _take_manifest(beliefs: Beliefs, topic: str, body: bytes, clock: Clock) -> Beliefs:
    state, manifest = trust.accept_manifest(beliefs.memory.trust, topic, body, clock)
    if body == beliefs.memory.manifest and beliefs.manifest is not None:
        return beliefs
    return replace(
        beliefs, memory=records.changed(beliefs.memory, trust=state, manifest=body), manifest=manifest
    )


def _take_desired(beliefs: Beliefs, device_id: str, topic: str, body: bytes, clock: Clock) -> Beliefs:
    state, desired = trust.accept_desired(beliefs.memory.trust, topic, body, clock)
    if body == beliefs.memory.desired and beliefs.desired is not None:
        return beliefs
    wanted = desired.desired
    memory = records.changed(
        beliefs.memory,
        trust=state,
        desired=body,
        role=wanted.role,
        segment=wanted.segment,
        update_interval=wanted.update_interval,
    )
    if (memory.role, memory.segment) == (beliefs.memory.role, beliefs.memory.segment):
        return replace(beliefs, memory=memory, desired=desired)
    # Another role or segment: the manifest of the old one says nothing any more.
    return Beliefs(records.changed(memory, manifest=b""), None, desired)


def is_reported(memory: Memory, refusal: Refusal) -> bool:
    """Whether exactly this refusal was reported before."""
    return refusal.key in memory.refusals
