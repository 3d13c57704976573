"""Looks at every rollout under way and lets it halt or complete. Run by the leader after each commit of ingest."""

from __future__ import annotations

from hub.caller import rule
from hub.deployment import counts, rules
from hub.deployment.manifests import policy_of
from hub.deployment.service import Deployment
from hub.errors import Conflict
from hub.store import Row, Store, Tx
from topics.names import SEGMENTS


def judge(store: Store, deployment: Deployment, *, now: int, observed_since: int) -> list[str]:
    """Halt what has failed and complete what has passed its last gate; return the releases that changed.

    Times in ms. A release that somebody changed in the meantime is left as it is: the verbs check the state
    again in their own transaction.
    """
    changed = []
    with store.read() as tx:
        verdicts = [
            (release["id"], *_verdict(tx, release, now, observed_since))
            for release in tx.all("SELECT * FROM releases WHERE state IN ('rolling', 'paused') ORDER BY id")
        ]
    for release_id, halt, complete in verdicts:
        try:
            if halt:
                deployment.halt(release_id, rule("failure"), halt)
                changed.append(release_id)
            elif complete:
                deployment.complete(release_id, rule("gate"))
                changed.append(release_id)
        except Conflict:
            continue
    return changed


def _verdict(tx: Tx, release: Row, now: int, observed_since: int) -> tuple[str | None, bool]:
    """Return why the release must halt, or whether it is complete."""
    policy = policy_of(release)
    known = counts.counts_by_segment(
        tx,
        release["id"],
        now=now,
        observed_since=observed_since,
        timeout_seconds=policy.failure.update_timeout_seconds,
        judged_from=release["judged_from"],
    )
    for segment in SEGMENTS:
        if segment in known:
            reason = rules.halt_reason(segment, known[segment], policy.failure)
            if reason:
                return reason, False
    return None, release["state"] == "rolling" and _passed_last_gate(tx, release, known, now)


def _passed_last_gate(tx: Tx, release: Row, known: dict[str, rules.Counts], now: int) -> bool:
    last = SEGMENTS[-1]
    if release["segment"] != last or release["basis_points"] < 10_000:
        return False
    here = known.get(last, rules.Counts())
    stage = tx.one(
        "SELECT full_at FROM stages WHERE release_id = :id AND segment = :segment",
        {"id": release["id"], "segment": last},
    )
    full_at = stage["full_at"] if stage else None
    waited = None if full_at is None else (now - full_at) / 1000
    try:
        rules.check_gate(release["id"], last, here, waited, policy_of(release).segment(last))
    except Conflict:
        return False
    return here.in_progress == 0 and counts.waiting(tx, release, last) == 0
