"""What a hub must know of a rollout, worked out anew from all that it was told: slow, short and without a database.

An attempt is known by the furthest thing that was ever heard of it, so neither order nor repetition of reports can
change a count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from hub.broker.outcomes import ORDERED
from hub.broker.reduce import RANKS
from hub.deployment.policy import FailurePolicy, Policy, SegmentPolicy
from hub.deployment.rules import Counts
from topics.messages import Drift, Recovery, UpdateResult


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
    n: int
    """Number of the report that changed it last."""
    after: str = ""
    """What went wrong after a success: drift or safe_mode."""


@dataclass
class Way:
    """From which epoch of a step on attempts at it are of another release's rollout, and not looked at yet."""

    epoch: int
    judged: int


_AFTER = {"drift": "drifted", "safe_mode": "safe_mode"}


@dataclass
class Known:
    """All that was told. `beats` are the times (ms) of heartbeats of devices that are registered."""

    attempts: dict[tuple[str, str], Heard] = field(default_factory=dict)
    beats: dict[str, int] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    judged_from: dict[str, int] = field(default_factory=dict)
    ways: dict[tuple[str, str, str], Way] = field(default_factory=dict)
    """By release, segment and step on the way to it."""

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
            report.n,
        )
        before = self.attempts.get(key)
        if before is None or _order(heard) > _order(before):
            if before is not None and before.attempt == heard.attempt:
                heard.after = before.after
            self.attempts[key] = heard

    def found(self, device_id: str, report: Drift | Recovery, *, under_way: bool) -> None:
        """Take in what was found after a success of a release that is `under_way`. Safe mode is never taken back."""
        heard = self.attempts.get((str(report.release), device_id))
        what: str | None = None
        if isinstance(report, Drift):
            what = "drift" if report.items else ""
        elif not report.entry.startswith(ORDERED):
            what = "safe_mode"
        if (
            what is None
            or not under_way
            or heard is None
            or heard.state != "committed"
            or heard.n >= report.n
        ):
            return
        heard.n = report.n
        if heard.after != "safe_mode":
            heard.epoch = self.epochs.get(str(report.release), 0) if what else heard.epoch
            heard.after = what

    def led(self, release: str, segment: str, steps: list[str]) -> None:
        """A release was offered to a segment, with steps on the way: what is heard of them from now on is of it."""
        is_first = not any(key[0] == release for key in self.ways)
        for step in steps:
            if is_first:
                self.epochs[step] = self.epochs.get(step, 0) + 1
            epoch = self.epochs.get(step, 0)
            self.ways.setdefault((release, segment, step), Way(epoch, epoch))

    def resumed(self, release: str, now: int) -> None:
        """An operator looked at what halted a release, and let it go on."""
        steps = {step for led, _, step in self.ways if led == release}
        for one in (release, *steps):
            self.epochs[one] = self.epochs.get(one, 0) + 1
        for (led, _, step), way in self.ways.items():
            if led == release:
                way.judged = self.epochs[step]
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
        tally = dict.fromkeys(Counts.__struct_fields__, 0)
        before = now - policy.failure.update_timeout_seconds * 1000
        for (id_, device_id), heard in self.attempts.items():
            way = self.ways.get((release, segment, id_))
            is_step = way is not None and heard.epoch >= way.epoch
            if (id_ != release and not is_step) or heard.segment != segment or heard.state == "refused":
                continue
            if id_ != release and heard.state == "committed" and not heard.after:
                continue
            ended = heard.state in ("committed", "failed", "rolled_back")
            failed = heard.state in ("failed", "rolled_back") or (ended and heard.after != "")
            if heard.state != "committed" and failed and heard.cause == "ordered":
                continue
            last = max(heard.at, self.beats.get(device_id, 0))
            lost = not ended and observed_since < before and last < before
            judged_epoch = way.judged if way is not None and id_ != release else self.epochs.get(release, 0)
            looked_at = (failed and heard.epoch < judged_epoch) or (
                lost and last < self.judged_from.get(release, 0)
            )
            if judged and looked_at:
                continue
            tally["began"] += 1
            if ended:
                tally[
                    _AFTER.get(heard.after, heard.state) if heard.state == "committed" else heard.state
                ] += 1
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
    return counts.failed + counts.rolled_back + counts.lost + counts.drifted + counts.safe_mode


def _order(heard: Heard) -> tuple[int, int]:
    return heard.attempt, RANKS[heard.state]  # type: ignore[index]
