"""Use cases of policies, approvals and the compliance report: each change is one transaction and one event."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec

from hub.caller import Caller
from hub.errors import Conflict, NotFound
from hub.events import Event, append
from hub.governance import compliance
from hub.policies.documents import Held, from_store, read, stored
from hub.store import Row, Store
from hub.times import rfc3339
from topics import names
from topics.eligibility import Zones

MOST: Final = 200
"""Policies of one fleet; each start reads all that concern its role."""
KEPT_DAYS: Final = 800
"""Daily reports that are kept: two years, and the time to compare with them."""


class Governance:
    """Policies and approvals of one fleet. `clock` gives ms."""

    def __init__(self, store: Store, fleet: str, zones: Zones, clock: Callable[[], int]) -> None:
        self._store = store
        self._fleet = fleet
        self._zones = zones
        self._clock = clock

    def add(self, given: Any, caller: Caller) -> dict[str, Any]:
        """Put a policy in force. Raises `Invalid` for what is none, `Conflict` for one too many."""
        policy = read(given, self._zones)
        held, now = Held(secrets.token_hex(6), policy), self._clock()
        row = {
            "id": held.id,
            "role": policy.role,
            "kind": held.kind,
            "body": stored(policy),
            "created_at": now,
            "created_by": caller.name,
        }
        with self._store.write() as tx:
            count = tx.one("SELECT COUNT(*) AS count FROM policies")
            if count is not None and count["count"] >= MOST:
                raise Conflict(f"There are {MOST} policies already; delete one first.", rule="too_many")
            tx.execute(
                "INSERT INTO policies (id, role, kind, body, created_at, created_by) "
                "VALUES (:id, :role, :kind, :body, :created_at, :created_by)",
                row,
            )
            made = _shown(row)
            append(
                tx, Event(kind="policy.added", role=policy.role, reason=policy.note, body=made), caller, now
            )
        return made

    def all(self) -> list[dict[str, Any]]:
        """Return every policy in force, the oldest first."""
        with self._store.read() as tx:
            return [_shown(row) for row in tx.all("SELECT * FROM policies ORDER BY created_at, id")]

    def remove(self, policy_id: str, reason: str, caller: Caller) -> None:
        """Take a policy out of force. Raises `NotFound`."""
        now = self._clock()
        with self._store.write() as tx:
            row = tx.one("SELECT * FROM policies WHERE id = :id", {"id": policy_id})
            if row is None:
                raise NotFound(f"There is no policy {policy_id}.")
            tx.execute("DELETE FROM policies WHERE id = :id", {"id": policy_id})
            append(
                tx,
                Event(kind="policy.removed", role=row["role"], reason=reason, body=_shown(row)),
                caller,
                now,
            )

    def approve(self, release_id: str, segment: str, reason: str, caller: Caller) -> dict[str, Any]:
        """Let `caller` vouch for a release in a segment; doing so again changes nothing. Raises `NotFound`.

        Whether it counts is for the promotion to say: nobody approves what they put on its way themselves.
        """
        names.segment(segment)
        now = self._clock()
        row = {"id": release_id, "segment": segment, "by": caller.name, "now": now, "reason": reason}
        with self._store.write() as tx:
            release = tx.one("SELECT role, state FROM releases WHERE id = :id", {"id": release_id})
            if release is None:
                raise NotFound(f"There is no release {release_id}.")
            if release["state"] not in ("published", "rolling", "paused"):
                raise Conflict(
                    f"{release_id} is {release['state']}; there is nothing to approve.", rule="state"
                )
            fresh = tx.execute(
                "INSERT INTO approvals (release_id, segment, approved_by, approved_at, reason) "
                "VALUES (:id, :segment, :by, :now, :reason) ON CONFLICT DO NOTHING",
                row,
            )
            if fresh:
                event = Event(
                    kind="release.approved",
                    release_id=release_id,
                    role=release["role"],
                    reason=reason,
                    body={"segment": segment},
                )
                append(tx, event, caller, now)
        return {"release": release_id, "items": self.approvals(release_id)}

    def withdraw(self, release_id: str, segment: str, caller: Caller) -> None:
        """Take the caller's own approval back. Raises `NotFound` when there is none."""
        now = self._clock()
        where = {"id": release_id, "segment": segment, "by": caller.name}
        with self._store.write() as tx:
            release = tx.one("SELECT role FROM releases WHERE id = :id", {"id": release_id})
            gone = tx.execute(
                "DELETE FROM approvals WHERE release_id = :id AND segment = :segment AND approved_by = :by",
                where,
            )
            if release is None or not gone:
                raise NotFound(f"{caller.name} has not approved {release_id} for {segment}.")
            event = Event(
                kind="release.approval_withdrawn",
                release_id=release_id,
                role=release["role"],
                body={"segment": segment},
            )
            append(tx, event, caller, now)

    def compliance(self, days: int = compliance.PERIOD_DAYS) -> dict[str, Any]:
        """Return the compliance report of now; exceptions and rollouts are those of the last `days`."""
        with self._store.read() as tx:
            return compliance.report(tx, self._fleet, now=self._clock(), days=days)

    def keep_day_if_due(self) -> bool:
        """Keep what today's report counts, unless it is kept already; return whether it was."""
        now = self._clock()
        where = {"day": now // compliance.DAY_MS}
        with self._store.read() as tx:
            if tx.one("SELECT day FROM compliance_days WHERE day = :day", where):
                return False
            found = compliance.report(tx, self._fleet, now=now)
        body = {key: found[key] for key in ("at", "totals", "groups", "chain")}
        with self._store.write() as tx:
            tx.execute(
                "INSERT INTO compliance_days (day, body) VALUES (:day, :body) ON CONFLICT (day) DO NOTHING",
                {**where, "body": msgspec.json.encode(body).decode()},
            )
            tx.execute("DELETE FROM compliance_days WHERE day < :day", {"day": where["day"] - KEPT_DAYS})
        return True

    def days(self, count: int) -> list[dict[str, Any]]:
        """Return what the reports of the last `count` days counted, the oldest first."""
        first = self._clock() // compliance.DAY_MS - count
        with self._store.read() as tx:
            rows = tx.all(
                "SELECT body FROM compliance_days WHERE day > :first ORDER BY day", {"first": first}
            )
        return [msgspec.json.decode(row["body"]) for row in rows]

    def approvals(self, release_id: str) -> list[dict[str, Any]]:
        """Return who approved a release, for which segment, when and why. Raises `NotFound`."""
        with self._store.read() as tx:
            if tx.one("SELECT 1 AS found FROM releases WHERE id = :id", {"id": release_id}) is None:
                raise NotFound(f"There is no release {release_id}.")
            rows = tx.all(
                "SELECT segment, approved_by, approved_at, reason FROM approvals WHERE release_id = :id "
                "ORDER BY approved_at, approved_by",
                {"id": release_id},
            )
        return [
            {
                "segment": row["segment"],
                "by": row["approved_by"],
                "at": rfc3339(row["approved_at"]),
                "reason": row["reason"],
            }
            for row in rows
        ]


def _shown(row: Row | dict[str, Any]) -> dict[str, Any]:
    """Return a policy as it was given, with its id, when and by whom."""
    return {
        "id": row["id"],
        **msgspec.to_builtins(from_store(row["body"])),
        "created_at": rfc3339(row["created_at"]),
        "created_by": row["created_by"],
    }
