"""What is looked at whenever a rollout has moved: that it moved by its rules."""

from __future__ import annotations

from typing import Any

from hub.deployment.policy import Policy
from hub.deployment.rules import Counts
from tests.hub.world import World
from tests.rollouts.model import Known, gate_is_open, has_failed
from tests.rollouts.scene import OFFERED
from topics.eligibility import bucket
from topics.names import SEGMENTS


class Checks:
    """The hub, what it was told, and where each release stood when it was last looked at."""

    world: World
    known: Known
    policies: dict[str, Policy]

    def __init__(self) -> None:
        super().__init__()
        self.before: dict[str, Any] = {}
        self.full_at: dict[tuple[str, str], int] = {}
        self.share_at: dict[str, tuple[str, int, int]] = {}
        """By release, its present segment and share, and since when (ms)."""

    def check_stages(self) -> None:
        """No stage begins before the gate of the one before; none completes before its own."""
        now = self.rows()
        for release, row in now.items():
            was = self.before[release]
            if row["segment"] != was["segment"]:
                here = SEGMENTS.index(row["segment"])
                assert here == (SEGMENTS.index(was["segment"]) + 1 if was["segment"] else 0)
                if was["segment"]:
                    self.check_gate(release, was["segment"])
            if row["state"] == "complete" != was["state"]:
                self.check_gate(release, SEGMENTS[-1])
            if row["state"] == "halted" != was["state"]:
                policy = self.policies[release].failure
                heard = [self.counts(release, segment, judged=True) for segment in SEGMENTS]
                assert any(has_failed(counts, policy) for counts in heard), "it halted without a reason"
            if self.share_at.get(release, ("", 0, 0))[:2] != place_of(row):
                self.share_at[release] = (*place_of(row), self.world.now)
            if row["segment"] and row["basis_points"] == 10_000:
                self.full_at.setdefault((release, row["segment"]), self.world.now)
        self.before = now

    def check_advance(self, release: str, was: Any, row: Any) -> None:
        """The hub widens a share only by its policy's steps, after the one before was proved, and never in vain."""
        steps = [round(step * 100) for step in self.policies[release].segment(row["segment"]).steps] or [
            10_000
        ]
        assert row["basis_points"] in steps
        if row["segment"] != was["segment"]:
            return
        assert row["basis_points"] > was["basis_points"]
        buckets = self._buckets(release, row["segment"])
        assert row["basis_points"] == 10_000 or any(
            was["basis_points"] <= at < row["basis_points"] for at in buckets
        )
        segment, share, since = self.share_at[release]
        assert (segment, share) == (was["segment"], was["basis_points"])
        policy = self.policies[release].segment(segment)
        waited = (self.world.now - since) / 1000
        if any(at < share for at in buckets) or self.counts(release, segment, judged=True).began:
            assert gate_is_open(self.counts(release, segment, judged=True), waited, policy)
        else:
            assert waited >= policy.least_wait_seconds

    def _buckets(self, release: str, segment: str) -> list[int]:
        with self.world.store.read() as tx:
            rows = tx.all("SELECT device_id FROM devices WHERE segment = :segment", {"segment": segment})
        return [bucket(release, row["device_id"]) for row in rows]

    def is_under_way(self, release: str | None) -> bool:
        """Whether a release is on offer as a candidate."""
        return release is not None and self.rows()[release]["state"] in OFFERED

    def check_gate(self, release: str, segment: str) -> None:
        counts = self.counts(release, segment, judged=True)
        waited = (self.world.now - self.full_at[release, segment]) / 1000
        assert gate_is_open(counts, waited, self.policies[release].segment(segment)), (release, counts)

    def counts(self, release: str, segment: str, *, judged: bool = False) -> Counts:
        """Count what was told of a release in a segment."""
        return self.known.counts(
            release,
            segment,
            self.policies[release],
            self.world.now,
            self.world.observed_since,
            judged=judged,
        )

    def rows(self) -> dict[str, Any]:
        """Return where each release stands."""
        with self.world.store.read() as tx:
            rows = tx.all("SELECT id, state, segment, basis_points, updated_at FROM releases")
        return {row["id"]: {name: row[name] for name in row.keys()} for row in rows}  # noqa: SIM118  (a row's)


def place_of(row: Any) -> tuple[str, int]:
    """Segment and share of a release's row."""
    return row["segment"], row["basis_points"]
