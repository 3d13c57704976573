"""What a device that has lost its `memory`, both generations of it, starts again from.

`memory` is written at every connection, so it is what a failing disk loses first. The anchor holds the part of it that
guards against going back, and is written only when that changes: a new root, role or segment, or a higher floor.
"""

from __future__ import annotations

import hashlib
import logging
import os

import msgspec

from edge.config import Paths
from edge.errors import NotReady
from edge.storage import memory, records, state
from edge.storage.memory import Memory
from edge.storage.spool import Entry, Spool
from edge.storage.state import State
from topics import codec, trust
from topics.channels import BY_NAME, MANIFEST
from topics.errors import DecodeError, TrustError
from topics.messages import CommandResult
from topics.trust import Mark, TrustState

log = logging.getLogger("flaghoist")


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """The root in force as it was signed; floors by role; marks by topic as they stood when this was written."""

    root: bytes
    role: str
    segment: str
    update_interval: int
    floors: dict[str, int] = {}
    marks: dict[str, Mark] = {}


def keep(paths: Paths, known: Memory) -> None:
    """Write the anchor anew if it does not hold what `known` does; marks alone are no reason. Raises `OSError`."""
    held, newest = records.load(paths.anchor, Anchor)
    made = Anchor(
        root=known.trust.root_bytes,
        role=known.role,
        segment=known.segment,
        update_interval=known.update_interval,
        floors=known.trust.floors,
        marks=known.trust.marks,
    )
    if held is None or not newest or records.changed(held, marks=made.marks) != made:
        records.save(paths.anchor, made)


def need(paths: Paths, fleet: str) -> Memory:
    """Return the memory, made anew when it is lost; raises `NotReady` when the anchor is lost too."""
    known = memory.load(paths)
    if known is not None:
        return known
    known = recall(paths, fleet)
    if known is None:
        raise NotReady(
            f"{paths.memory} and {paths.anchor} are missing or damaged; run flaghoist-edge enrol again with a new token"
        )
    log.warning("%s is missing or damaged; it is made anew from %s", paths.memory, paths.anchor)
    return known


def recall(paths: Paths, fleet: str) -> Memory | None:
    """Return a memory made from what else is on disk, None without an anchor of this fleet. Raises `NotReady`."""
    held, _ = records.load(paths.anchor, Anchor)
    if held is None:
        return None
    try:
        pinned = trust.pin_root(held.root, hashlib.sha256(held.root).hexdigest())
    except TrustError:
        return None
    if pinned.fleet != fleet:
        return None
    return rebuilt(held, pinned, state.load(paths), Spool.peek(paths.spool), records.fresh_id(os.urandom(8)))


def rebuilt(held: Anchor, pinned: TrustState, standing: State, waiting: list[Entry], series: str) -> Memory:
    """Return the memory of a device that lost it; `pinned` trusts the anchor's root alone. Pure. Rules:

    1. The root is the anchor's: keys that were replaced before do not come back to power.
    2. A role's floor is the highest of the anchor's and those of the releases that run, ran before, or are tried here.
    3. A document is refused that is older than the anchor's mark of its topic, or than the manifest by which this
       device last began an update; that very manifest is taken again.
    4. A command whose answer waits for the hub is not done again.
    5. Reports begin a new `series`: serials after a loss could repeat ones that the spool has seen.
    """
    releases = [each.release for each in (standing.running, standing.previous, standing.update) if each]
    floors = dict(held.floors)
    for release in releases:
        floors[release.role] = max(release.floor, floors.get(release.role, 0))
    marks = dict(held.marks)
    update = standing.update
    if update is not None and update.manifest and update.segment:
        topic = MANIFEST.topic(pinned.fleet, role=update.release.role, segment=update.segment)
        known = marks.get(topic)
        if known is None or known.issued_at < update.manifest:
            # One below: its hash is not known here, and the same document must not count as replayed.
            marks[topic] = Mark(update.manifest - 1, "")
    return Memory(
        id=series,
        trust=TrustState(pinned.root, pinned.root_bytes, marks, floors),
        role=held.role,
        segment=held.segment,
        update_interval=held.update_interval,
        done=[command for entry in waiting if (command := _answered(entry))][-memory.MAX_DONE :],
    )


def _answered(entry: Entry) -> str:
    if entry.channel != CommandResult.kind:
        return ""
    try:
        return codec.decode(entry.body, CommandResult, limit=BY_NAME[entry.channel].limit).command
    except DecodeError:
        return ""
