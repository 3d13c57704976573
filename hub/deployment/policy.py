"""A role's rollout policy: how long and how well a release must do in a segment, and when it has failed."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from hub.errors import Invalid
from topics.documents import Window
from topics.eligibility import Zones
from topics.names import SEGMENTS

Ratio = Annotated[float, Meta(ge=0.0, le=1.0, description="a share, 0 to 1 (0.2 is 20 percent)")]
Percentage = Annotated[float, Meta(gt=0.0, le=100.0, description="percent, at most two decimals")]
Wait = Annotated[int, Meta(ge=0, le=90 * 86_400, description="seconds")]


WHOLE: Final = 10_000
"""A whole segment, in basis points."""


class SegmentPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a segment must show before the next one may begin.

    `least_wait_seconds` counts from the moment the whole segment was offered the release. `steps` are the shares by
    which the segment comes to that, ascending and the last one 100; each must show the same before the next.
    """

    least_wait_seconds: Wait = 3_600
    least_reports: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    success_ratio: Ratio = 0.95
    steps: Annotated[list[Percentage], Meta(max_length=20)] = []

    def __post_init__(self) -> None:
        """Raise `ValueError`, which msgspec tells as a refusal of this field, for steps that lead nowhere."""
        if any(Fraction(str(step)) * 100 % 1 for step in self.steps):
            raise ValueError("steps have at most two decimals")
        if any(later <= earlier for earlier, later in pairwise(self.steps)):
            raise ValueError("steps must each be larger than the one before")
        if self.steps and self.steps[-1] != 100:
            raise ValueError("the last of the steps must be 100, or the segment would never be whole")

    @property
    def shares(self) -> tuple[int, ...]:
        """The steps in basis points; the whole segment at once where none are set."""
        return tuple(round(step * 100) for step in self.steps) or (WHOLE,)


class FailurePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a rollout halts by itself.

    `max_ratio` and `max_count` are what is tolerated: more halts, exactly as much does not.
    `min_reports` keeps one early failure of many from halting; it never exceeds the devices that began.
    """

    max_ratio: Ratio = 0.1
    min_reports: Annotated[int, Meta(ge=1, le=1_000_000)] = 3
    max_count: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    update_timeout_seconds: Annotated[int, Meta(ge=10, le=30 * 86_400)] = 3_600


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole policy. A value that is text, a percentage above 1 or out of range is refused, never ignored.

    `advance` says who takes a release on once it has passed the gate, to the next step or the next segment: a person,
    or the hub.
    """

    advance: Literal["by_hand", "automatic"] = "by_hand"
    segments: dict[str, SegmentPolicy] = {}
    failure: FailurePolicy = FailurePolicy()
    spread_seconds: Annotated[int, Meta(ge=0, le=7 * 86_400)] = 0
    window: Window | None = None

    def segment(self, name: str) -> SegmentPolicy:
        """Return the policy of a segment, the default one where none is set."""
        return self.segments.get(name, SegmentPolicy())

    def unknown_segments(self) -> list[str]:
        """Names under `segments` that are not segments."""
        return sorted(set(self.segments) - set(SEGMENTS))


def read_policy(given: Any, zones: Zones) -> Policy:
    """Return the policy that a caller sent; raises `Invalid` naming the field that is wrong.

    Nothing is converted: the framework would take "0.2" for 0.2, and a threshold that is text is a mistake somewhere.
    """
    try:
        policy = msgspec.convert(given, Policy)
    except msgspec.ValidationError as error:
        raise Invalid(
            f"The policy is refused: {str(error).replace('$.', 'policy.')}.", rule="policy"
        ) from None
    if policy.unknown_segments():
        raise Invalid(f"policy.segments: {policy.unknown_segments()[0]!r} is not a segment.", rule="policy")
    if policy.failure.max_ratio >= 1 and policy.failure.max_count is None:
        raise Invalid(
            "policy.failure.max_ratio: 1 is every device, so nothing would halt the rollout; give max_count as well, "
            "or a smaller share (0.01 is one percent).",
            rule="policy",
        )
    zone = policy.window.zone if policy.window else "device"
    if zone != "device" and zones(zone) is None:
        raise Invalid(
            f"policy.window.zone: {zone!r} is no time zone that this hub knows, so the window would never open.",
            rule="policy",
        )
    return policy
