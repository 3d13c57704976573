"""Promotions that wait for their time. They are rows, so a restart of the hub forgets none."""

from __future__ import annotations

from typing import Final, get_args

from hub.caller import Caller
from hub.deployment.records import SELECT_RELEASE, record
from hub.errors import Conflict, Invalid
from hub.policies.documents import Kind
from hub.policies.rules import LASTING
from hub.store import Row, Tx
from hub.times import rfc3339

FURTHEST_MS: Final = 90 * 86_400_000
"""How far ahead a promotion may be put."""

_WAITS: Final = ("gate_share", "gate_wait", "gate_reports", "gate_success", "clock_behind", "moved_on")
_POLICY_WAITS: Final = frozenset(f"policy.{kind}" for kind in get_args(Kind) if kind not in LASTING)


def check_time(not_before: int, now: int) -> None:
    """Raise `Invalid` for a time that is too far ahead to be meant. Both in ms."""
    if not_before - now > FURTHEST_MS:
        raise Invalid("not_before is more than 90 days ahead.", rule="not_before")


def goes_on_waiting(refusal: Conflict) -> bool:
    """Whether a promotion that is due, but refused, waits on: for the gate it would have to pass by hand as well.

    Any other rule means that it can never come to pass as it was ordered.
    """
    return refusal.rule in _WAITS or refusal.rule in _POLICY_WAITS


def put(
    tx: Tx, release: Row, segment: str, share: int, not_before: int, caller: Caller, reason: str, now: int
) -> None:
    """Schedule a promotion in place of the one that the release may have waiting."""
    tx.execute(
        "INSERT INTO schedules (release_id, segment, basis_points, not_before, actor, reason, created_at) "
        "VALUES (:id, :segment, :share, :not_before, :actor, :reason, :now) ON CONFLICT (release_id) DO UPDATE SET "
        "segment = excluded.segment, basis_points = excluded.basis_points, not_before = excluded.not_before, "
        "actor = excluded.actor, reason = excluded.reason, created_at = excluded.created_at",
        {
            "id": release["id"],
            "segment": segment,
            "share": share,
            "not_before": not_before,
            "actor": caller.name,
            "reason": reason,
            "now": now,
        },
    )
    body = {"segment": segment, "basis_points": share, "not_before": rfc3339(not_before)}
    record(tx, "release.scheduled", release["id"], release["role"], caller, now, reason, body)


def take(tx: Tx, release_id: str) -> bool:
    """Take a waiting promotion away because it happens now; return whether there was one."""
    return tx.execute("DELETE FROM schedules WHERE release_id = :id", {"id": release_id}) > 0


def cancel(tx: Tx, release: Row, caller: Caller, reason: str, now: int) -> bool:
    """Take a waiting promotion away, with an event; return whether there was one."""
    if not take(tx, release["id"]):
        return False
    record(tx, "release.unscheduled", release["id"], release["role"], caller, now, reason)
    return True


def due(tx: Tx, now: int) -> list[Row]:
    """Return the releases with a promotion whose time has come, the longest waiting first."""
    return tx.all(
        f"{SELECT_RELEASE} WHERE schedules.not_before <= :now ORDER BY schedules.not_before, releases.id",
        {"now": now},
    )
