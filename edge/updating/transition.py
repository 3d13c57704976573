"""One step of the lifecycle as a change of `State`, with the report that belongs to it. Pure."""

from __future__ import annotations

from typing import Final, Literal

from edge.storage import records, state
from edge.storage.state import State
from topics import lifecycle
from topics.messages import Boot, UpdateResult, UpdateState

MOST_MS: Final = 30 * 86_400_000
"""Longest phase that is told of, in ms: as long as a rollout may wait for a device at most."""


def step(
    base: State,
    following: UpdateState,
    wall: int,
    boot: Boot,
    *,
    check: str = "",
    begin: bool = False,
) -> State:
    """Return `base` with its update one step on at `wall` (ms), and the report of that step if it is durable.

    `begin` reports the first step, which the new update stands at already.
    """
    update = base.update
    if update is None:
        raise LookupError("there is no update under way")
    if not begin:
        lifecycle.advance(update.state, following)
        spent = max(0, wall - update.entered)
        # What a clock that was put right makes of a phase is no duration, and more years than a report may hold.
        phases = update.phases if spent > MOST_MS else {**update.phases, update.state: spent}
        update = records.changed(update, state=following, entered=wall, phases=phases)
    changed = records.changed(base, update=update)
    if following not in lifecycle.DURABLE:
        return changed
    cause: Literal["own", "ordered"] = update.cause
    if following == "rolled_back":
        cause = "own"
    before = base.previous if following == "committed" else base.running
    report = UpdateResult(
        boot=boot,
        at=max(0, wall // 1000),
        spool=state.NO_SPOOL,
        n=1,
        state=following,
        release=update.release.id,
        attempt=update.attempt,
        from_release=before.release.id if before else None,
        to_release=update.release.id,
        segment=update.segment or None,
        cause=cause,
        reason=update.reason[:1000],
        check=check,
        manifest=update.manifest,
        phases=update.phases,
    )
    return state.with_report(changed, report)
