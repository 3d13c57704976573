"""Whether policies let one device be locked to a release that nobody offered to its segment, for that is a start.

What a promotion offered to the segment, or is complete, was let through then, so that a device in trouble finds its way
back at any time. A site's share and old drift are no questions of one device.
"""

from __future__ import annotations

from typing import Final

from hub.caller import Caller
from hub.errors import Conflict, Forbidden
from hub.events import Event, append
from hub.policies import facts
from hub.policies.documents import AllowedSegments, Approvals, Freeze, LeastAgent, RequiredChecks
from hub.policies.rules import refusals
from hub.store import Row, Tx
from hub.times import zones

ASKED: Final = (LeastAgent, Freeze, AllowedSegments, Approvals, RequiredChecks)


def enforce(
    tx: Tx, device: Row, release_id: str, segment: str, caller: Caller, now: int, *, exception: str = ""
) -> None:
    """Raise the `Conflict` of the first policy that refuses; or write down which gave way to an admin's `exception`.

    Raises `Forbidden` for an exception that somebody else asks for. The release is known to be published; `now` in ms.
    """
    release = tx.one("SELECT id, role, state, envelope FROM releases WHERE id = :id", {"id": release_id})
    where = {"id": release_id, "segment": segment}
    offered = tx.one("SELECT 1 AS was FROM stages WHERE release_id = :id AND segment = :segment", where)
    if release is None or release["state"] == "complete" or offered is not None:
        return
    asked = [held for held in facts.in_force(tx, release["role"]) if isinstance(held.policy, ASKED)]
    action = facts.promotion(tx, release, segment, 0, asked, caller, now)
    refused = refusals(asked, action, zones)
    if not refused:
        return
    if not exception.strip():
        raise Conflict(refused[0].detail, rule=refused[0].rule)
    if not caller.may("admin"):
        raise Forbidden(
            f"Only an admin excepts a device from policies; {caller.name} has {caller.role}.", rule="role"
        )
    for refusal in refused:
        event = Event(
            kind="policy.excepted",
            device_id=device["device_id"],
            release_id=release_id,
            role=release["role"],
            reason=exception,
            body={"policy": refusal.policy, "kind": refusal.kind, "detail": refusal.detail},
        )
        append(tx, event, caller, now)
