"""The decisions of a rollout, pure: what may be promoted, when a stage is passed, when it must halt.

States of a release and the verbs that move it:

    draft ──upload──► published ──promote──► rolling ──(general gate passed)──► complete
                                    rolling ◄──resume── paused, halted
                                    rolling ──pause──► paused     rolling ──(failure rule)──► halted
                    rolling, paused, halted, complete ──rollback──► rolled_back
                    rolling, paused, halted ──(a later release is promoted)──► superseded

Counts are per release and segment:

- A device began when it reported a download; it ended when it reported `committed`, `failed`, `rolled_back`.
- Failures are `failed`, `rolled_back` of the device's own accord, `lost` (began, then silent past the time-out), and
  after a success `drifted` (what stands on the device is not what was released) and `safe_mode` (it entered that).
  An ordered rollback is none, a refusal is none.
"""

from __future__ import annotations

import math
from fractions import Fraction

import msgspec

from hub.deployment.policy import WHOLE, FailurePolicy, SegmentPolicy
from hub.errors import Conflict, Invalid
from topics.names import SEGMENTS

ACTIVE = ("rolling", "paused", "halted")


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one release in one segment."""

    began: int = 0
    committed: int = 0
    failed: int = 0
    rolled_back: int = 0
    lost: int = 0
    drifted: int = 0
    safe_mode: int = 0

    @property
    def failures(self) -> int:
        """Devices for which the release did not work."""
        return self.failed + self.rolled_back + self.lost + self.drifted + self.safe_mode

    @property
    def ended(self) -> int:
        """Devices whose outcome is known."""
        return self.committed + self.failures

    @property
    def in_progress(self) -> int:
        """Devices that began and have neither ended nor been lost."""
        return max(0, self.began - self.ended)


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """What a promotion is decided on.

    `others` are the role's active releases (id, sequence); `stable_sequence` is the highest stable one, 0 if none.
    `full_seconds` is how long the present segment has been offered to whole, None if it is not yet.
    """

    release: str
    sequence: int
    state: str
    segment: str | None
    basis_points: int
    counts: Counts
    full_seconds: float | None
    stable_sequence: int
    others: tuple[tuple[str, int], ...] = ()


def basis_points(percentage: float) -> int:
    """Return a `rolloutPercentage` (0 to 100, exclusive of 0) as basis points; raises `Invalid`.

    It has at most two decimals: a share that no device can be told is not rounded to one that nobody asked for.
    """
    if not math.isfinite(percentage) or not 0 < percentage <= 100:
        raise Invalid("rolloutPercentage must be above 0 and at most 100.", rule="percentage")
    share = _exactly(percentage) * 100
    if share.denominator != 1:
        raise Invalid(
            f"rolloutPercentage {percentage:g} has more than two decimals; a share counts hundredths of a percent.",
            rule="percentage",
        )
    return int(share)


def check_override(*, override: bool, reason: str) -> None:
    """Raise `Invalid` for a gate that is to be passed over without saying why."""
    if override and not reason.strip():
        raise Invalid("override needs a reason; it stands in the log of events.", rule="override_reason")


def check_promotion(
    view: Promotion, policy: SegmentPolicy, target: str, share: int, *, force: bool = False
) -> None:
    """Raise `Conflict` naming the rule that refuses promoting to `target` at `share` basis points. Rules:

    1. `state`: only a published or rolling release moves on; a paused or halted one is resumed first.
    2. `downgrade`: never behind the role's stable release; that is what rollback is for.
    3. `older_than_active`: never behind another release that is under way.
    4. `segment_order`: the present segment, or the one after it; the first is canary.
    5. `share_lowered`: a share only grows, since devices that took the release keep it.
    6. the gate of the present segment, when the target is the next one (see `check_gate`), unless `force`.
    """
    name = view.release
    if view.state in ("paused", "halted"):
        raise Conflict(f"{name} is {view.state}; resume it, or roll it back, before promoting.", rule="state")
    if view.state not in ("published", "rolling"):
        raise Conflict(
            f"{name} is {view.state}, not published or rolling, so it cannot be promoted.", rule="state"
        )
    if view.sequence <= view.stable_sequence:
        raise Conflict(
            f"{name} has sequence {view.sequence}, behind the stable {view.stable_sequence}; use rollback to go back.",
            rule="downgrade",
        )
    for other, sequence in view.others:
        if sequence > view.sequence:
            raise Conflict(
                f"The later release {other} is under way; roll that back before promoting {name}.",
                rule="older_than_active",
            )
    here = SEGMENTS.index(view.segment) if view.segment else -1
    there = SEGMENTS.index(target)
    if there not in (here, here + 1) or there < 0:
        after = view.segment or "nothing"
        due = SEGMENTS[min(here + 1, len(SEGMENTS) - 1)]
        raise Conflict(f"{name} has reached {after}, so {due} is next, not {target}.", rule="segment_order")
    if there == here and share < view.basis_points:
        raise Conflict(
            f"{name} is offered to {view.basis_points / 100:g}% of {target}; a share cannot be lowered.",
            rule="share_lowered",
        )
    if there == here + 1 and view.segment is not None and not force:
        check_gate(view.release, view.segment, view.counts, view.full_seconds, policy)


def check_gate(
    release: str, segment: str, counts: Counts, full_seconds: float | None, policy: SegmentPolicy
) -> None:
    """Raise `Conflict` unless `release` has proved itself in the whole of `segment`. Rules:

    1. `gate_share`: the whole segment was offered the release.
    2. `gate_wait`: for at least `least_wait_seconds`.
    3. `gate_reports`: at least `least_reports` devices ended, and at least one of them well. An empty segment
       proves nothing.
    4. `gate_success`: of those that ended, at least `success_ratio` ended well; exactly as much is enough.
    """
    if full_seconds is None:
        raise Conflict(
            f"{release} is not offered to all of {segment} yet; go to 100% first.", rule="gate_share"
        )
    _check_proof(release, segment, counts, full_seconds, policy)


def check_step(
    release: str, segment: str, share: int, counts: Counts, seconds: float, policy: SegmentPolicy
) -> None:
    """Raise `Conflict` unless `release` has proved itself in `share` basis points of `segment`, offered for `seconds`.

    Rules 2 to 4 of `check_gate`, over all who were offered it so far; the wait begins anew with each share.
    """
    _check_proof(release, f"{share / 100:g}% of {segment}", counts, seconds, policy)


def _check_proof(release: str, place: str, counts: Counts, seconds: float, policy: SegmentPolicy) -> None:
    if seconds < policy.least_wait_seconds:
        left = math.ceil(policy.least_wait_seconds - seconds)
        raise Conflict(f"{release} must stay in {place} for another {left} s.", rule="gate_wait")
    if counts.ended < policy.least_reports or counts.committed < 1:
        raise Conflict(
            f"{place} has {counts.ended} results for {release}, {counts.committed} of them good; "
            f"{policy.least_reports} and at least one good one are needed.",
            rule="gate_reports",
        )
    if counts.committed < _exactly(policy.success_ratio) * counts.ended:
        raise Conflict(
            f"{counts.committed} of {counts.ended} devices in {place} took {release} well, "
            f"below the {policy.success_ratio:.0%} needed.",
            rule="gate_success",
        )


def shares_above(policy: SegmentPolicy, share: int) -> tuple[int, ...]:
    """Return the steps that lie above `share`, in basis points; the last is the whole segment.

    A share that a person chose is a step like any other: what follows is what lies above it.

    >>> shares_above(SegmentPolicy(steps=[5, 25, 100]), 500), shares_above(SegmentPolicy(steps=[5, 25, 100]), 2_000)
    ((2500, 10000), (2500, 10000))
    >>> shares_above(SegmentPolicy(), 0), shares_above(SegmentPolicy(steps=[5, 100]), 10_000)
    ((10000,), (10000,))
    """
    return tuple(step for step in policy.shares if step > share) or (WHOLE,)


def next_segment(segment: str | None) -> str | None:
    """Return the segment after `segment`, None after the last one and for a release that was offered to none.

    >>> next_segment("canary"), next_segment("general"), next_segment(None)
    ('early', None, None)
    """
    here = SEGMENTS.index(segment) if segment else len(SEGMENTS)
    return SEGMENTS[here + 1] if here + 1 < len(SEGMENTS) else None


def halt_reason(segment: str, counts: Counts, policy: FailurePolicy) -> str | None:
    """Return why the rollout must halt on what `segment` reported, or None.

    1. More failures than `max_count`.
    2. Once at least `min_reports` devices ended (or all that began, if fewer), a share of failures above
       `max_ratio`.
    """
    if policy.max_count is not None and counts.failures > policy.max_count:
        return f"{counts.failures} failures in {segment}, more than {policy.max_count}"
    needed = min(policy.min_reports, counts.began)
    if (
        counts.failures
        and counts.ended >= needed
        and counts.failures > _exactly(policy.max_ratio) * counts.ended
    ):
        return (
            f"{counts.failures} of {counts.ended} devices in {segment} failed, "
            f"more than {policy.max_ratio:.0%}"
        )
    return None


def _exactly(ratio: float) -> Fraction:
    # 0.57 of 100 is 57: the ratio means what the operator wrote, not the nearest binary fraction.
    return Fraction(str(ratio))
