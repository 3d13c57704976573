"""Use cases of rollouts: each is one transaction and one event, and hoists what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from hub.caller import Caller
from hub.deployment import counts, permits, rules, schedules, shares, stages, waypoints
from hub.deployment.manifests import hoist_segment, hoist_where, policy_of
from hub.deployment.policy import Policy
from hub.deployment.records import check_trusted, get_release, record, release_view, set_state
from hub.deployment.rehearsal import Rehearsal
from hub.errors import Conflict
from hub.policies.rules import Refusal
from hub.signer import Signer
from hub.store import Row, Store, Tx
from hub.times import zones
from topics import names
from topics.channels import parse
from topics.eligibility import Zones

# A rollback once ordered stands: a device that was away for two of them must go back past both.
_AT_LEAST = "CASE WHEN rollback_from > {0} THEN rollback_from ELSE {0} END"


class Meant(msgspec.Struct, frozen=True):
    """Where a release stood, and what was scheduled for it (place and time), when a rule looked at it."""

    segment: str | None
    basis_points: int
    due: tuple[str, int, int] | None

    @classmethod
    def of(cls, release: Row) -> Meant:
        """Return it of a row of `get_release`."""
        due = None
        if release["due_at"] is not None:
            due = (release["due_segment"], release["due_share"], release["due_at"])
        return cls(release["segment"], release["basis_points"], due)


class Deployment:
    """Releases and rollouts of one fleet. `clock` gives ms; `observed_since` when ingest last caught up (ms).

    Whatever starts or forces back asks the fleet's policies as well; an `exception` is an admin's reason to pass over
    them.
    """

    def __init__(
        self,
        store: Store,
        signer: Signer,
        sources: list[str],
        clock: Callable[[], int],
        observed_since: Callable[[], int],
        zones: Zones = zones,
    ) -> None:
        self._store = store
        self._signer = signer
        self._sources = sources
        self._clock = clock
        self._observed_since = observed_since
        self.awaited: dict[str, str] = {}
        """By release, a device that it waited for when it was last looked at: where to look first."""
        self._zones = zones

    def rehearsed(self) -> Deployment:
        """Return one whose changes are all taken back, to see what it would refuse."""
        kept = (self._signer, self._sources, self._clock, self._observed_since, self._zones)
        return Deployment(Rehearsal(self._store), *kept)

    def sign_again(self, caller: Caller) -> int:
        """Sign every manifest anew, as after a change of the deployment key; return how many."""
        now = self._clock()
        with self._store.write() as tx:
            count = hoist_where(tx, self._signer, "role <> ''", {}, self._sources, now)
            if count:
                record(tx, "manifests.refreshed", None, None, caller, now, "", {"count": count})
            return count

    def refusal(
        self, tx: Tx, release: Row, target: str, share: int, *, override: bool = False
    ) -> Conflict | None:
        """Return the rule that refuses promoting `release` to `share` basis points of `target` now, if any does.

        `override` leaves out the gate of the present segment, and nothing else.
        """
        policy = policy_of(release)
        now = self._clock()
        view = self._promotion(tx, release, policy, self._others(tx, release), now)
        try:
            check_trusted(tx, release)
            rules.check_promotion(
                view, policy.segment(release["segment"] or target), target, share, force=override
            )
        except Conflict as refusal:
            return refusal
        return None

    def refused_by_policy(
        self, tx: Tx, release: Row, target: str, share: int, caller: Caller
    ) -> list[Refusal]:
        """Return which policies refuse that `caller` offers `release` to `share` basis points of `target` now."""
        return permits.start(tx, release, target, share, caller, self._zones, self._clock())

    def next_share(self, tx: Tx, release: Row, target: str) -> int:
        """Return the share (basis points) to which the policy of a release takes it next in a segment."""
        return shares.next_share(tx, release, target, policy_of(release).segment(target))

    def promote(
        self,
        release_id: str,
        target: str,
        percentage: float | None,
        caller: Caller,
        reason: str = "",
        *,
        override: bool = False,
        exception: str = "",
        meant: Meant | None = None,
    ) -> dict[str, Any]:
        """Offer a release to a share of a segment. Raises `Conflict` with the rule or the policy that refuses.

        Without a `percentage` the share is the next one by the steps of the release's policy.
        With `override` the gate does not refuse; the rule that would have stands in the event, with the reason.
        `meant` is what a rule of the hub decided upon: it must not act when somebody was quicker.
        """
        names.segment(target)
        asked = _basis_points(percentage)
        rules.check_override(override=override, reason=reason)
        now = self._clock()
        with self._store.write() as tx:
            release = get_release(tx, release_id)
            if meant is not None and meant != Meant.of(release):
                raise Conflict(f"{release_id} has moved on in the meantime.", rule="moved_on")
            share = asked or self.next_share(tx, release, target)
            refusal = self.refusal(tx, release, target, share)
            if refusal is not None and override:
                overridden, refusal = refusal.rule, self.refusal(tx, release, target, share, override=True)
            else:
                overridden = ""
            if refusal is not None:
                raise refusal
            refused = self.refused_by_policy(tx, release, target, share, caller)
            permits.enforce(tx, release, refused, caller, exception, now)
            for other, _ in self._others(tx, release):
                self._supersede(tx, get_release(tx, other), release_id, caller, now)
            schedules.take(tx, release_id)
            waypoints.begin(tx, release, target)
            tx.execute(
                "UPDATE segments SET candidate_id = :release, basis_points = :share, paused = 0, "
                "event = 'update_available' WHERE role = :role AND segment = :segment",
                {"release": release_id, "share": share, "role": release["role"], "segment": target},
            )
            stages.start(tx, release_id, release["segment"], target, share, caller, reason, now)
            tx.execute(
                "UPDATE releases SET state = 'rolling', segment = :segment, basis_points = :share, reason = '', "
                "updated_at = :now WHERE id = :id",
                {"segment": target, "share": share, "now": now, "id": release_id},
            )
            hoist_segment(tx, self._signer, release["role"], target, self._sources, now)
            body = {"segment": target, "basis_points": share, "from_segment": release["segment"]}
            if overridden:
                body["overridden"] = overridden
            record(tx, "release.promoted", release_id, release["role"], caller, now, reason, body)
            return release_view(get_release(tx, release_id))

    def schedule(
        self,
        release_id: str,
        target: str,
        percentage: float | None,
        not_before: int,
        caller: Caller,
        reason: str = "",
    ) -> dict[str, Any]:
        """Promote a release at `not_before` (ms), or as soon after it as the gate lets through.

        Refused at once for what no time would mend. Pausing or rolling back the release cancels it.
        """
        names.segment(target)
        asked = _basis_points(percentage)
        now = self._clock()
        schedules.check_time(not_before, now)
        with self._store.write() as tx:
            release = get_release(tx, release_id)
            share = asked or self.next_share(tx, release, target)
            refusal = self.refusal(tx, release, target, share, override=True)
            if refusal is not None:
                raise refusal
            # What time may mend, a freeze or an approval, is for the time when it is due.
            refused = self.refused_by_policy(tx, release, target, share, caller)
            permits.enforce(tx, release, [one for one in refused if one.is_lasting], caller, "", now)
            schedules.put(tx, release, target, share, not_before, caller, reason, now)
            return release_view(get_release(tx, release_id))

    def unschedule(self, release_id: str, caller: Caller, reason: str, meant: Meant) -> None:
        """Take a waiting promotion away, unless the release is no longer as it was `meant`."""
        with self._store.write() as tx:
            release = get_release(tx, release_id)
            if meant == Meant.of(release):
                schedules.cancel(tx, release, caller, reason, self._clock())

    def pause(self, release_id: str, caller: Caller, reason: str = "") -> dict[str, Any]:
        """Stop new starts everywhere the release is offered. Pausing what is paused changes nothing."""
        return self._stop(release_id, "paused", ("rolling",), caller, reason)

    def halt(self, release_id: str, caller: Caller, reason: str) -> dict[str, Any]:
        """Stop a rollout that has failed. Two failures that arrive together halt once."""
        return self._stop(release_id, "halted", ("rolling", "paused"), caller, reason)

    def resume(
        self, release_id: str, caller: Caller, reason: str = "", *, exception: str = ""
    ) -> dict[str, Any]:
        """Go on after a pause or a halt; failures up to now are taken as looked at and do not halt again."""
        now = self._clock()
        with self._store.write() as tx:
            release = get_release(tx, release_id)
            if release["state"] == "rolling":
                return release_view(release)
            if release["state"] not in ("paused", "halted"):
                raise Conflict(f"{release_id} is {release['state']}, not paused or halted.", rule="state")
            permits.enforce(
                tx, release, permits.resumption(tx, release, self._zones, now), caller, exception, now
            )
            if release["state"] == "halted":
                tx.execute(
                    "UPDATE releases SET judged_from = :now, epoch = releases.epoch + 1 WHERE id = :id",
                    {"now": now, "id": release_id},
                )
                waypoints.look_past(tx, release_id)
            stages.go_on(tx, release_id, now)
            set_state(tx, release_id, "rolling", reason, now)
            self._hoist_candidates(tx, release, "paused = 0, event = 'update_available'", now)
            record(tx, "release.resumed", release_id, release["role"], caller, now, reason)
            return release_view(get_release(tx, release_id))

    def rollback(
        self, release_id: str, caller: Caller, reason: str = "", *, exception: str = ""
    ) -> dict[str, Any]:
        """Withdraw a release: devices that run it go back to the stable one, even if they read of it in a month."""
        now = self._clock()
        with self._store.write() as tx:
            release = get_release(tx, release_id)
            if release["state"] == "rolled_back":
                return release_view(release)
            permits.enforce(
                tx, release, permits.withdrawal(tx, release, self._zones, now), caller, exception, now
            )
            cancelled = schedules.cancel(tx, release, caller, reason, now)
            if release["state"] == "published" and cancelled:
                return release_view(get_release(tx, release_id))
            # First of all, since a release that is being withdrawn must be no step on the way to another.
            set_state(tx, release_id, "rolled_back", reason, now)
            if release["state"] == "complete":
                self._withdraw_stable(tx, release, now)
            elif release["state"] in rules.ACTIVE:
                self._hoist_candidates(
                    tx,
                    release,
                    "candidate_id = NULL, basis_points = 0, paused = 0, event = 'rollback', "
                    f"rollback_from = {_AT_LEAST.format(int(release['sequence']))}",
                    now,
                )
            else:
                raise Conflict(
                    f"{release_id} is {release['state']}; only a release that devices were offered can be rolled back.",
                    rule="state",
                )
            stages.finish(tx, release_id, f"rolled back: {reason}" if reason else "rolled back", now)
            record(tx, "release.rolled_back", release_id, release["role"], caller, now, reason)
            return release_view(get_release(tx, release_id))

    def complete(self, release_id: str, caller: Caller) -> None:
        """Make a release that has passed its last gate the stable one of its role."""
        now = self._clock()
        with self._store.write() as tx:
            release = get_release(tx, release_id)
            if release["state"] != "rolling":
                return
            before = tx.one(
                "SELECT stable_id FROM segments WHERE role = :role AND segment = 'general'",
                {"role": release["role"]},
            )
            tx.execute(
                "UPDATE releases SET previous_id = :previous WHERE id = :id",
                {"previous": before["stable_id"] if before else None, "id": release_id},
            )
            tx.execute(
                "UPDATE segments SET stable_id = :id, event = 'update_available', paused = 0, basis_points = 0, "
                "candidate_id = NULL WHERE role = :role",
                {"id": release_id, "role": release["role"]},
            )
            for segment in names.SEGMENTS:
                hoist_segment(tx, self._signer, release["role"], segment, self._sources, now)
            schedules.cancel(tx, release, caller, "the release is complete", now)
            stages.finish(tx, release_id, "complete", now)
            set_state(tx, release_id, "complete", "", now)
            record(tx, "release.completed", release_id, release["role"], caller, now)

    def refresh(self, caller: Caller, *, before: int) -> int:
        """Sign anew every manifest that expires before `before` (ms); return how many."""
        now = self._clock()
        with self._store.write() as tx:
            rows = tx.all(
                "SELECT topic FROM retained WHERE expires_at > 0 AND expires_at < :before", {"before": before}
            )
            for row in rows:
                address = parse(row["topic"])
                if address.role and address.segment:
                    hoist_segment(tx, self._signer, address.role, address.segment, self._sources, now)
            if rows:
                record(tx, "manifests.refreshed", None, None, caller, now, "", {"count": len(rows)})
            return len(rows)

    def _promotion(
        self, tx: Tx, release: Row, policy: Policy, others: list[tuple[str, int]], now: int
    ) -> rules.Promotion:
        known = counts.known(tx, release, policy, now=now, observed_since=self._observed_since()).judged
        stable = tx.one(
            "SELECT COALESCE(MAX(releases.sequence), 0) AS sequence FROM segments "
            "JOIN releases ON releases.id = segments.stable_id WHERE segments.role = :role",
            {"role": release["role"]},
        )
        return rules.Promotion(
            release=release["id"],
            sequence=release["sequence"],
            state=release["state"],
            segment=release["segment"],
            basis_points=release["basis_points"],
            counts=known.get(release["segment"], rules.Counts()),
            full_seconds=stages.waited_whole(tx, release, now),
            stable_sequence=stable["sequence"] if stable else 0,
            others=tuple(others),
        )

    def _others(self, tx: Tx, release: Row) -> list[tuple[str, int]]:
        rows = tx.all(
            "SELECT id, sequence FROM releases WHERE role = :role AND id <> :id "
            "AND state IN ('rolling', 'paused', 'halted')",
            {"role": release["role"], "id": release["id"]},
        )
        return [(row["id"], row["sequence"]) for row in rows]

    def _supersede(self, tx: Tx, other: Row, by: str, caller: Caller, now: int) -> None:
        reason = f"{by} was promoted"
        schedules.cancel(tx, other, caller, reason, now)
        stages.finish(tx, other["id"], reason, now)
        set_state(tx, other["id"], "superseded", reason, now)
        record(tx, "release.superseded", other["id"], other["role"], caller, now)

    def _stop(
        self, release_id: str, state: str, from_states: tuple[str, ...], caller: Caller, reason: str
    ) -> dict[str, Any]:
        now = self._clock()
        with self._store.write() as tx:
            release = get_release(tx, release_id)
            if release["state"] == state:
                return release_view(release)
            cancelled = schedules.cancel(tx, release, caller, reason, now)
            if release["state"] == "published" and cancelled:
                return release_view(get_release(tx, release_id))
            if release["state"] not in from_states:
                raise Conflict(f"{release_id} is {release['state']}; it cannot be {state}.", rule="state")
            stages.stand_still(tx, release_id, now)
            set_state(tx, release_id, state, reason, now)
            self._hoist_candidates(tx, release, "paused = 1, event = 'pause'", now)
            record(tx, f"release.{state}", release_id, release["role"], caller, now, reason)
            return release_view(get_release(tx, release_id))

    def _hoist_candidates(self, tx: Tx, release: Row, assignment: str, now: int) -> None:
        """Change and hoist every segment that offers `release`. `assignment` is constant SQL of ours."""
        rows = tx.all(
            "SELECT segment FROM segments WHERE role = :role AND candidate_id = :id",
            {"role": release["role"], "id": release["id"]},
        )
        tx.execute(
            f"UPDATE segments SET {assignment} WHERE role = :role AND candidate_id = :id",  # noqa: S608
            {"role": release["role"], "id": release["id"]},
        )
        for row in rows:
            hoist_segment(tx, self._signer, release["role"], row["segment"], self._sources, now)

    def _withdraw_stable(self, tx: Tx, release: Row, now: int) -> None:
        previous = tx.one("SELECT * FROM releases WHERE id = :id", {"id": release["previous_id"]})
        if previous is None:
            raise Conflict(
                f"{release['id']} is the first release of {release['role']}; there is nothing to go back to.",
                rule="nothing_before",
            )
        if previous["sequence"] < release["floor"]:
            raise Conflict(
                f"{release['id']} set a floor of {release['floor']}, so no device would go back to {previous['id']}.",
                rule="below_floor",
            )
        if tx.one("SELECT 1 AS found FROM artifacts WHERE release_id = :id", {"id": previous["id"]}) is None:
            raise Conflict(
                f"The bundle of {previous['id']} is gone: this hub keeps those of --keep-rollbacks rollbacks in a row; "
                "publish it again, then roll back.",
                rule="bundle_gone",
            )
        still = tx.all(
            "SELECT segment FROM segments WHERE role = :role AND stable_id = :id",
            {"role": release["role"], "id": release["id"]},
        )
        if not still:
            raise Conflict(f"{release['id']} is no longer the stable release of its role.", rule="state")
        tx.execute(
            "UPDATE segments SET stable_id = :previous, event = 'rollback', "  # noqa: S608  (a number of ours)
            f"rollback_from = {_AT_LEAST.format(int(release['sequence']))} WHERE role = :role AND stable_id = :id",
            {"previous": previous["id"], "role": release["role"], "id": release["id"]},
        )
        for row in still:
            hoist_segment(tx, self._signer, release["role"], row["segment"], self._sources, now)


def _basis_points(percentage: float | None) -> int | None:
    return None if percentage is None else rules.basis_points(percentage)
