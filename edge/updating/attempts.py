"""How an attempt begins and is given up, and how a refusal is reported. Pure."""

from __future__ import annotations

from edge.beliefs import Beliefs, Refusal
from edge.storage import records, state
from edge.storage.memory import Memory
from edge.storage.state import ByHand, State, Update
from edge.updating import transition
from topics.documents import Release
from topics.eligibility import Decision
from topics.messages import Boot, UpdateResult


def begun(
    base: State, held: Beliefs, decision: Decision, wall: int, *, command: str = "", retry: bool = False
) -> State:
    """Return `base` with a new attempt at what was decided on, begun at `wall` (ms), and its report.

    `command` is the `redeploy` behind it, `retry` says that it may be tried although it failed before.
    """
    release, manifest = decision.release, held.manifest
    if release is None or manifest is None:
        raise LookupError("only an eligible decision starts an update")
    counted = state.with_attempt(base, release.id)
    last = base.update
    tries = 0
    if last is not None and last.release.id == release.id and last.state in ("failed", "rolled_back"):
        tries = last.tries + 1
    attempt = Update(
        release=release,
        sources=list(manifest.manifest.sources),
        attempt=counted.attempts[release.id],
        tries=tries,
        cause="ordered" if decision.ordered else "own",
        segment=held.memory.segment,
        manifest=manifest.manifest.issued_at,
        command=command,
        retry=retry,
        fail_by=held.memory.armed,
        entered=wall,
    )
    return transition.step(
        records.changed(counted, update=attempt), "downloading", wall, held.memory.boot, begin=True
    )


def by_hand(base: State, known: Memory, release: Release, order: ByHand, wall: int) -> State:
    """Return `base` with a new attempt at what a technician ordered, begun at `wall` (ms), and its report.

    To the hub going back is no failure of the release that is gone back to, nor an update to it: it is `ordered`.
    """
    counted = state.with_attempt(base, release.id)
    attempt = Update(
        release=release,
        sources=[],
        attempt=counted.attempts[release.id],
        cause="ordered" if order == "rollback" else "own",
        segment=known.segment,
        reason=f"{order} by a technician",
        by_hand=order,
        entered=wall,
    )
    return transition.step(
        records.changed(counted, update=attempt), "downloading", wall, known.boot, begin=True
    )


def given_up(base: State, wall: int, boot: Boot) -> State:
    """Return `base` with its attempt failed, because its process cannot be kept alive."""
    update = base.update
    if update is None:
        raise LookupError("there is no update under way")
    ended = records.changed(update, reason=f"the update process stopped {update.starts} times", cause="own")
    return transition.step(records.changed(base, update=ended), "failed", wall, boot)


def refusal_report(refusal: Refusal, memory: Memory, running: str | None, wall: int) -> UpdateResult:
    """Return the durable report of a document that was not trusted."""
    return UpdateResult(
        boot=memory.boot,
        at=max(0, wall // 1000),
        spool=state.NO_SPOOL,
        n=1,
        state="refused",
        from_release=running,
        segment=memory.segment,
        reason="untrusted",
        check=refusal.check,
        topic=refusal.topic[:128],
    )
