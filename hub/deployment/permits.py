"""What fleet policies say to a start, a resumption or a rollback, and the exceptions that an admin makes."""

from __future__ import annotations

from collections.abc import Sequence

from hub.caller import Caller
from hub.deployment.records import record
from hub.errors import Conflict, Forbidden
from hub.policies import facts
from hub.policies.rules import Action, Refusal, refusals
from hub.store import Row, Tx
from topics.eligibility import Zones


def start(
    tx: Tx, release: Row, segment: str, share: int, caller: Caller, zones: Zones, now: int
) -> list[Refusal]:
    """Return which policies refuse that `caller` offers `release` to `share` basis points of `segment`."""
    policies = facts.in_force(tx, release["role"])
    if not policies:
        return []
    action = facts.promotion(tx, release, segment, share, policies, caller, now)
    return refusals(policies, action, zones)


def resumption(tx: Tx, release: Row, zones: Zones, now: int) -> list[Refusal]:
    """Return which policies refuse that a paused or halted rollout goes on."""
    action = Action(verb="resume", role=release["role"], now=now)
    return refusals(facts.in_force(tx, release["role"]), action, zones)


def withdrawal(tx: Tx, release: Row, zones: Zones, now: int) -> list[Refusal]:
    """Return which policies refuse that devices are forced back. A rollout under way is withdrawn at any time."""
    if release["state"] != "complete":
        return []
    action = Action(verb="rollback", role=release["role"], now=now)
    return refusals(facts.in_force(tx, release["role"]), action, zones)


def conflict(refused: Sequence[Refusal]) -> Conflict | None:
    """Return the first refusal as what a caller is answered; it says how many more there are."""
    if not refused:
        return None
    more = f" So do {len(refused) - 1} more." if len(refused) > 1 else ""
    return Conflict(refused[0].detail + more, rule=refused[0].rule)


def enforce(
    tx: Tx, release: Row, refused: Sequence[Refusal], caller: Caller, exception: str, now: int
) -> None:
    """Raise the `Conflict` of `refused`; or, for an admin with an `exception`, write down which policies gave way.

    Raises `Forbidden` for an exception that somebody else asks for.
    """
    found = conflict(refused)
    if found is None:
        return
    if not exception.strip():
        raise found
    if not caller.may("admin"):
        raise Forbidden(
            f"Only an admin excepts a release from policies; {caller.name} has {caller.role}.", rule="role"
        )
    for refusal in refused:
        body = {"policy": refusal.policy, "kind": refusal.kind, "detail": refusal.detail}
        record(tx, "policy.excepted", release["id"], release["role"], caller, now, exception, body)
