"""What a hub must know of a rollout, worked out anew from all that it was told: slow, short and without a database.

An attempt is known by the furthest thing that was ever heard of it, so neither order nor repetition of reports can
change a count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from hub.broker.reduce import RANKS
from hub.deployment.policy import FailurePolicy, Policy, SegmentPolicy
from hub.deployment.rules import Counts
from topics.messages import UpdateResult


@dataclass
class Heard:
    """The furthest that was heard of a device's newest attempt at a release; `at` (ms) is when, `epoch` how often the
    release had been resumed by then."""

    attempt: int
    state: str
    cause: str
    segment: str
    at: int
    epoch: int


@dataclass
class Known:
    """All that was told. `beats` are the times (ms) of heartbeats of devices that are registered."""

    attempts: dict[tuple[str, str], Heard] = field(default_factory=dict)
    beats: dict[str, int] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    judged_from: dict[str, int] = field(default_factory=dict)

    def tell(self, device_id: str, report: UpdateResult, now: int) -> None:
        """Take in a report."""
        assert report.release is not None and report.segment is not None
        key = (report.release, device_id)
        heard = Heard(
            report.attempt,
            report.state,
            report.cause,
            report.segment,
            now,
            self.epochs.get(report.release, 0),
        )
        before = self.attempts.get(key)
        if before is None or _order(heard) > _order(before):
            self.attempts[key] = heard

    def resumed(self, release: str, now: int) -> None:
        """An operator looked at what halted a release, and let it go on."""
        self.epochs[release] = self.epochs.get(release, 0) + 1
        self.judged_from[release] = now

    def counts(
        self,
        release: str,
        segment: str,
        policy: Policy,
        now: int,
        observed_since: int,
        *,
        judged: bool = False,
    ) -> Counts:
        """Count; with `judged`, without the failures that an operator has looked at."""
        tally = dict.fromkeys(("began", "committed", "failed", "rolled_back", "lost"), 0)
        before = now - policy.failure.update_timeout_seconds * 1000
        for (id_, device_id), heard in self.attempts.items():
            if id_ != release or heard.segment != segment or heard.state == "refused":
                continue
            ended = heard.state in ("committed", "failed", "rolled_back")
            failed = heard.state in ("failed", "rolled_back")
            if failed and heard.cause == "ordered":
                continue
            last = max(heard.at, self.beats.get(device_id, 0))
            lost = not ended and observed_since < before and last < before
            looked_at = (failed and heard.epoch < self.epochs.get(release, 0)) or (
                lost and last < self.judged_from.get(release, 0)
            )
            if judged and looked_at:
                continue
            tally["began"] += 1
            if ended:
                tally[heard.state] += 1
            elif lost:
                tally["lost"] += 1
        return Counts(**tally)


def gate_is_open(counts: Counts, waited: float, policy: SegmentPolicy) -> bool:
    """Whether a segment that was offered the whole release for `waited` s has shown enough."""
    return (
        waited >= policy.least_wait_seconds
        and counts.committed >= 1
        and counts.committed + _failures(counts) >= policy.least_reports
        and Fraction(counts.committed, counts.committed + _failures(counts))
        >= Fraction(str(policy.success_ratio))
    )


def has_failed(counts: Counts, policy: FailurePolicy) -> bool:
    """Whether a rollout must halt on what a segment reported."""
    failures, ended = _failures(counts), counts.committed + _failures(counts)
    too_many = policy.max_count is not None and failures > policy.max_count
    enough = ended >= min(policy.min_reports, counts.began)
    return too_many or (failures > 0 and enough and failures > Fraction(str(policy.max_ratio)) * ended)


def _failures(counts: Counts) -> int:
    return counts.failed + counts.rolled_back + counts.lost


def _order(heard: Heard) -> tuple[int, int]:
    return heard.attempt, RANKS[heard.state]  # type: ignore[index]
