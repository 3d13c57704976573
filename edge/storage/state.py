"""The update's state on disk: what runs, what is being tried, what failed, and reports not yet spooled.

One process writes it at a time: the update's own while it runs, else the agent. A report is written in the
same step as the transition it reports, so no crash can part them; the spool takes each serial once.
"""

from __future__ import annotations

import os
from typing import Final, Literal

import msgspec

from edge.config import Paths
from edge.storage import disk, outbox, records
from topics import codec
from topics.documents import Release
from topics.errors import DecodeError
from topics.messages import Durable, UpdateState

NO_SPOOL: Final = "00000000"
"""Stands where the spool will write its id and number."""
MAX_FAILED: Final = 32
MAX_ATTEMPTS: Final = 64


class Pending(msgspec.Struct, frozen=True):
    """A durable report on its way into the spool, encoded with placeholders for `spool` and `n`."""

    serial: int
    channel: str
    body: bytes


class Installed(msgspec.Struct, frozen=True):
    """A release that was committed here, and when (s)."""

    release: Release
    since: int = 0


ByHand = Literal["", "install", "rollback"]
"""What a technician ordered at the device itself; "" for what the hub wants."""


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """The `attempt`-th attempt this device ever made at a release (the hub orders reports by it, so it never
    starts anew), the `tries`-th repetition after failed ones. `phases` are ms per state; `entered` is the wall
    clock (ms) of the last. `restart` is the boot in which its step asked for a restart, "" when none did."""

    release: Release
    sources: list[str]
    attempt: int
    tries: int = 0
    state: UpdateState = "downloading"
    cause: Literal["own", "ordered"] = "own"
    segment: str = ""
    manifest: int = 0
    reason: str = ""
    lasting: bool = False
    command: str = ""
    retry: bool = False
    by_hand: ByHand = ""
    fail_by: str = ""
    starts: int = 0
    activations: int = 0
    rollbacks: int = 0
    restart: str = ""
    entered: int = 0
    phases: dict[str, int] = {}


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `id` names the series of `serial`, which numbers reports; `service` is why the release
    that should run does not, "" if it does; `safe_mode` is the id of the present stay, "" outside. `inspect` is an
    inspection for drift that was ordered, `inspect_at` (s) when the next comes by itself, `drifted` names what the last
    report of drift said, "" for none. `confirmed` is the release and the boot of the last `confirm`; `reboots` counts
    restarts that the running release asked for since it was last confirmed."""

    id: str
    running: Installed | None = None
    previous: Installed | None = None
    update: Update | None = None
    failed: list[str] = []
    attempts: dict[str, int] = {}
    failures: int = 0
    safe_mode: str = ""
    safe_mode_applied: bool = False
    again: bool = False
    service: str = ""
    restarts: int = 0
    confirmed: str = ""
    reboots: int = 0
    inspect: Literal["", "check", "repair"] = ""
    inspect_at: int = 0
    drifted: str = ""
    collect: str = ""
    """Why diagnostics are to be taken, "" when they are not."""
    serial: int = 0
    outbox: list[Pending] = []

    @property
    def running_id(self) -> str | None:
        """Id of the committed release."""
        return self.running.release.id if self.running else None


def load(paths: Paths) -> State:
    """Return the state on disk. When it is lost, what `current` points to is taken as committed."""
    state, newest = records.load(paths.state, State)
    if state is not None and newest:
        return state
    # Serials after a loss could repeat ones that the spool has seen, so they start a new series.
    series = records.fresh_id(os.urandom(8))
    if state is not None:
        return records.changed(state, id=series)
    return State(id=series, running=_found(paths))


def is_lost(paths: Paths) -> bool:
    """Whether there was a state and neither generation of it is whole. Raises `NotReady`."""
    return records.load(paths.state, State)[0] is None and records.exists(paths.state)


def save(paths: Paths, state: State) -> None:
    """Make `state` durable in one step. Raises `OSError`."""
    records.save(paths.state, state)


def remember_release(paths: Paths, release: Release, checksums: bytes) -> None:
    """Keep the signed facts and the checksums of a release beside its folder. Raises `OSError`."""
    disk.replace(paths.checksums(release.id), checksums)
    disk.replace(paths.meta(release.id), codec.encode(release))


def with_report(state: State, report: Durable) -> State:
    """Return `state` with `report` in its outbox."""
    serial = state.serial + 1
    pending = Pending(serial, report.kind, codec.encode(report))  # type: ignore[attr-defined]
    return records.changed(state, serial=serial, outbox=outbox.added(state.outbox, pending))


def with_failed(state: State, release_id: str) -> State:
    """Return `state` with a release on the failed list, the newest last."""
    others = [known for known in state.failed if known != release_id]
    return records.changed(state, failed=[*others, release_id][-MAX_FAILED:])


def with_attempt(state: State, release_id: str) -> State:
    """Return `state` with one more attempt at a release counted."""
    attempts = {key: value for key, value in state.attempts.items() if key != release_id}
    attempts[release_id] = state.attempts.get(release_id, 0) + 1
    while len(attempts) > MAX_ATTEMPTS:
        del attempts[next(iter(attempts))]
    return records.changed(state, attempts=attempts)


def _found(paths: Paths) -> Installed | None:
    try:
        release_id = paths.current.readlink().name
        release = codec.decode(paths.meta(release_id).read_bytes(), Release, limit=64 * 1024)
    except (OSError, DecodeError):
        return None
    return Installed(release)
