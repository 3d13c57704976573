"""Looks at every rollout under way and lets it halt, advance or complete.

Run by the leader after each commit of ingest, and every second for what only time decides. In order:

1. A rollout that has failed halts, paused or not.
2. One that rolls and has passed its last gate is complete.
3. One whose policy says `advance: automatic` goes on once it has passed the gate: to the next step of its segment, else
   to the first step of the next segment, if no policy of the fleet refuses. A promotion that somebody scheduled comes
   before that. A step in which nobody is any more, since they were moved or deleted, is gone on from without proof:
   nobody could give one.
4. A share that a person chose is a step as well, where the policy has any: the hub goes on from there to the steps
   above it. Without steps a person who chose a part of a segment has to choose the whole.
5. A scheduled promotion whose time has come happens; it waits on for the gate, and falls away when another rule
   refuses it.
"""

from __future__ import annotations

import msgspec

from hub.caller import rule
from hub.deployment import counts, permits, rules, schedules, shares, stages
from hub.deployment.manifests import policy_of
from hub.deployment.policy import WHOLE, Policy
from hub.deployment.records import SELECT_RELEASE
from hub.deployment.service import Deployment, Meant
from hub.errors import Conflict
from hub.store import Row, Store, Tx
from topics.names import SEGMENTS


class Advance(msgspec.Struct, frozen=True):
    """Where a release goes next; `share` in basis points."""

    segment: str
    share: int
    reason: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of a release now: at most one of these."""

    release: Row
    halt: str | None = None
    complete: bool = False
    advance: Advance | None = None


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
        to = verdict.advance
        where = (release["id"], to.segment, to.share / 100)
        deployment.promote(*where, rule("gate"), to.reason, meant=Meant.of(release))
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
    if release["state"] != "rolling":
        return Verdict(release=release)
    advance = None
    if policy.advance == "automatic" and release["due_at"] is None:
        advance = _advance(tx, release, known, policy, now)
        if advance and deployment.refused_by_policy(
            tx, release, advance.segment, advance.share, rule("gate")
        ):
            advance = None
    complete = (
        release["segment"] == SEGMENTS[-1]
        and _passed_gate(tx, release, known, policy, now)
        and known[SEGMENTS[-1]].in_progress == 0
        and not _is_awaited(tx, deployment, release)
    )
    return Verdict(release=release, complete=complete, advance=advance)


def _is_awaited(tx: Tx, deployment: Deployment, release: Row) -> bool:
    found = counts.awaited(tx, release, SEGMENTS[-1], deployment.awaited.get(release["id"], ""))
    if found is None:
        deployment.awaited.pop(release["id"], None)
        return False
    deployment.awaited[release["id"]] = found
    return True


def _advance(
    tx: Tx, release: Row, known: dict[str, rules.Counts], policy: Policy, now: int
) -> Advance | None:
    segment, share = release["segment"], release["basis_points"]
    here = policy.segment(segment)
    if share < WHOLE:
        if not here.steps or not _passed_step(tx, release, known, policy, now):
            return None
        wider = shares.next_share(tx, release, segment, here)
        return Advance(segment, wider, f"passed {share / 100:g}% of {segment}")
    following = rules.next_segment(segment)
    if following is None or not _passed_gate(tx, release, known, policy, now):
        return None
    first = shares.next_share(tx, release, following, policy.segment(following))
    return Advance(following, first, f"passed the gate of {segment}")


def _passed_step(tx: Tx, release: Row, known: dict[str, rules.Counts], policy: Policy, now: int) -> bool:
    """Whether a part of a segment has shown what the segment's policy asks for, or nobody is in it."""
    segment, share = release["segment"], release["basis_points"]
    here = known.get(segment, rules.Counts())
    try:
        rules.check_step(
            release["id"],
            segment,
            share,
            here,
            stages.waited(tx, release, now) or 0.0,
            policy.segment(segment),
        )
    except Conflict as refusal:
        return refusal.rule == "gate_reports" and not here.began and shares.is_empty(tx, release)
    return True


def _refusal(tx: Tx, deployment: Deployment, row: Row) -> Conflict | None:
    """Return what refuses a scheduled promotion now, a rule or a policy."""
    where = (tx, row, row["due_segment"], row["due_share"])
    refusal = deployment.refusal(*where)
    return refusal or permits.conflict(deployment.refused_by_policy(*where, rule("schedule")))


def _passed_gate(tx: Tx, release: Row, known: dict[str, rules.Counts], policy: Policy, now: int) -> bool:
    """Whether the present segment has shown what its policy asks for."""
    segment = release["segment"]
    waited = stages.waited_whole(tx, release, now)
    try:
        rules.check_gate(
            release["id"], segment, known.get(segment, rules.Counts()), waited, policy.segment(segment)
        )
    except Conflict:
        return False
    return True
