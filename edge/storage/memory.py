"""What the agent believes and has done, on disk: trust, the last documents, command ids, counters.

The agent alone writes it. Documents are kept as the bytes that were signed and are checked again when they
are read, so a file that was tampered with is not believed either.
"""

from __future__ import annotations

import os
from typing import Final

import msgspec

from edge.config import Paths
from edge.errors import NotReady
from edge.storage import outbox, records
from edge.storage.state import Pending
from topics import codec
from topics.messages import Boot, Durable
from topics.trust import TrustState

MAX_DONE: Final = 256
MAX_REFUSALS: Final = 64


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `refusals` names the refused documents that were reported, `done` the commands carried out,
    `armed` what makes the next update break (see `edge.updating.chaos`); `session` counts connections."""

    id: str
    trust: TrustState
    role: str
    segment: str
    update_interval: int = 300
    manifest: bytes = b""
    desired: bytes = b""
    boot: Boot = (0, "00000000")
    session: int = 0
    done: list[str] = []
    refusals: list[str] = []
    armed: str = ""
    serial: int = 0
    outbox: list[Pending] = []


def load(paths: Paths) -> Memory | None:
    """Return the memory, or None when there is none or none that is whole. Raises `NotReady`."""
    memory, newest = records.load(paths.memory, Memory)
    if memory is None or newest:
        return memory
    return records.changed(memory, id=records.fresh_id(os.urandom(8)))


def need(paths: Paths) -> Memory:
    """Return the memory; raises `NotReady` when there is none."""
    memory = load(paths)
    if memory is None:
        raise NotReady(
            f"{paths.memory} is missing or damaged; start the agent, which makes it anew from {paths.anchor}"
        )
    return memory


def save(paths: Paths, memory: Memory) -> None:
    """Make `memory` durable in one step. Raises `OSError`."""
    records.save(paths.memory, memory)


def booted(memory: Memory, wall: int, entropy: bytes) -> Memory:
    """Return the memory at a new start of the agent: the boot counter rises, its random part is new.

    A memory that starts from nothing counts from the wall clock (s), or from the newest document trusted if that is
    later, above any counter it may have lost.
    """
    newest = max((mark.issued_at for mark in memory.trust.marks.values()), default=0)
    counter = memory.boot[0] + 1 if memory.boot[0] else max(1, wall // 1000, newest // 1000)
    return records.changed(memory, boot=(counter, entropy[:4].hex()))


def with_report(memory: Memory, report: Durable) -> Memory:
    """Return `memory` with `report` in its outbox."""
    serial = memory.serial + 1
    pending = Pending(serial, report.kind, codec.encode(report))  # type: ignore[attr-defined]
    return records.changed(memory, serial=serial, outbox=outbox.added(memory.outbox, pending))


def with_done(memory: Memory, command: str) -> Memory:
    """Return `memory` knowing that a command was carried out."""
    return records.changed(memory, done=[*memory.done, command][-MAX_DONE:])


def with_refusal(memory: Memory, key: str) -> Memory:
    """Return `memory` knowing that a refusal was reported."""
    return records.changed(memory, refusals=[*memory.refusals, key][-MAX_REFUSALS:])
