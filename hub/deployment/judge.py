"""Looks at every rollout under way and lets it halt, advance or complete.

Run by the leader after each commit of ingest, and every second for what only time decides. In order:

1. A rollout that has failed halts, paused or not.
2. One that rolls and has passed its last gate is complete.
3. One whose policy says `advance: automatic` goes to the whole of the next segment once it has passed the gate
   and no policy of the fleet refuses.
   A promotion that somebody scheduled comes before that.
4. A scheduled promotion whose time has come happens; it waits on for the gate, and falls away when another rule
   refuses it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from hub.caller import rule
from hub.deployment import counts, permits, rules, schedules
from hub.deployment.manifests import policy_of
from hub.deployment.policy import Policy
from hub.deployment.records import SELECT_RELEASE
from hub.deployment.service import Deployment, Meant
from hub.errors import Conflict
from hub.store import Row, Store, Tx
from topics.names import SEGMENTS

_WHOLE: Final = 100.0


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of a release now: at most one of these."""

    release: Row
    halt: str | None = None
    complete: bool = False
    advance: str | None = None


def judge(store: Store, deployment: Deployment, *, now: int, observed_since: int) -> list[str]:
    """Act on every rollout under way, and on what is scheduled; return the releases that changed.

    Times in ms. A release that somebody changed in the meantime is left as it is: the verbs check the state
    again in their own transaction.
    """
    changed = []
    with store.read() as tx:
        verdicts = [
            _verdict(tx, deployment, release, now, observed_since)
            for release in tx.all(
                f"{SELECT_RELEASE} WHERE state IN ('rolling', 'paused') ORDER BY releases.id"
            )
        ]
        due = [(row, _refusal(tx, deployment, row)) for row in schedules.due(tx, now)]
    for verdict in verdicts:
        try:
            if _act(deployment, verdict):
                changed.append(verdict.release["id"])
        except Conflict:
            continue
    for row, refusal in due:
        if _start_scheduled(deployment, row, refusal):
            changed.append(row["id"])
    return changed


def _act(deployment: Deployment, verdict: Verdict) -> bool:
    release = verdict.release
    if verdict.halt:
        deployment.halt(release["id"], rule("failure"), verdict.halt)
    elif verdict.complete:
        deployment.complete(release["id"], rule("gate"))
    elif verdict.advance:
        reason = f"passed the gate of {release['segment']}"
        deployment.promote(
            release["id"], verdict.advance, _WHOLE, rule("gate"), reason, meant=Meant.of(release)
        )
    else:
        return False
    return True


def _start_scheduled(deployment: Deployment, row: Row, refusal: Conflict | None) -> bool:
    """Promote what is due, or drop what no longer can be; return whether anything changed."""
    meant = Meant.of(row)
    reason = f"scheduled by {row['due_by']}" + (f": {row['due_reason']}" if row["due_reason"] else "")
    percentage = row["due_share"] / 100
    try:
        if refusal is not None:
            raise refusal
        deployment.promote(row["id"], row["due_segment"], percentage, rule("schedule"), reason, meant=meant)
    except Conflict as conflict:
        if schedules.goes_on_waiting(conflict):
            return False
        deployment.unschedule(row["id"], rule("schedule"), f"{conflict.rule}: {conflict.detail}", meant)
    return True


def _verdict(tx: Tx, deployment: Deployment, release: Row, now: int, observed_since: int) -> Verdict:
    policy = policy_of(release)
    known = counts.known(tx, release, policy, now=now, observed_since=observed_since).judged
    for segment in SEGMENTS:
        if segment in known:
            reason = rules.halt_reason(segment, known[segment], policy.failure)
            if reason:
                return Verdict(release=release, halt=reason)
    if release["state"] != "rolling" or not _passed_gate(tx, release, known, policy, now):
        return Verdict(release=release)
    if release["segment"] == SEGMENTS[-1]:
        here = known[SEGMENTS[-1]]
        done = here.in_progress == 0 and not counts.is_awaited(tx, release, SEGMENTS[-1])
        return Verdict(release=release, complete=done)
    target = rules.next_segment(release["segment"])
    if policy.advance != "automatic" or release["due_at"] is not None or target is None:
        return Verdict(release=release)
    refused = deployment.refused_by_policy(tx, release, target, 10_000, rule("gate"))
    return Verdict(release=release, advance=None if refused else target)


def _refusal(tx: Tx, deployment: Deployment, row: Row) -> Conflict | None:
    """Return what refuses a scheduled promotion now, a rule or a policy."""
    where = (tx, row, row["due_segment"], row["due_share"])
    refusal = deployment.refusal(*where)
    return refusal or permits.conflict(deployment.refused_by_policy(*where, rule("schedule")))


def _passed_gate(tx: Tx, release: Row, known: dict[str, rules.Counts], policy: Policy, now: int) -> bool:
    """Whether the present segment has shown what its policy asks for."""
    segment = release["segment"]
    if release["basis_points"] < 10_000:
        return False
    stage = tx.one(
        "SELECT full_at FROM stages WHERE release_id = :id AND segment = :segment",
        {"id": release["id"], "segment": segment},
    )
    full_at = stage["full_at"] if stage else None
    waited = None if full_at is None else (now - full_at) / 1000
    try:
        rules.check_gate(
            release["id"], segment, known.get(segment, rules.Counts()), waited, policy.segment(segment)
        )
    except Conflict:
        return False
    return True
