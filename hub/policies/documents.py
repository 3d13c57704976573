"""Fleet policies as people write them: one kind each, for one role or for all of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hub.errors import Invalid
from topics.documents import Segment, Window
from topics.eligibility import Zones, version_at_least
from topics.fields import Name, Role, Text

Seconds = Annotated[int, Meta(ge=60, le=3_660 * 86_400)]
Segments = Annotated[list[Segment], Meta(min_length=1, max_length=3)]
Script = Annotated[str, Meta(max_length=128, pattern=r"^[^/\x00]+\Z", description="a name below validate/")]
Instant = Annotated[datetime, Meta(tz=True)]


class _Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """`role` is None for a policy of the whole fleet; `note` is for people."""

    role: Role | None = None
    note: Text = ""


class LeastAgent(_Policy, frozen=True, kw_only=True, tag="least_agent_version"):
    """A release must ask for at least this agent, so that no device with an older one takes it."""

    version: Annotated[Name, Meta(min_length=1)]


class Freeze(_Policy, frozen=True, kw_only=True, tag="freeze"):
    """Nothing new starts: while the window is open, or from one instant (included) to another (not)."""

    window: Window | None = None
    starts_at: Instant | None = None
    ends_at: Instant | None = None


class RollbackWindow(_Policy, frozen=True, kw_only=True, tag="rollback_window"):
    """A release that is complete is withdrawn, and devices forced back, only while the window is open."""

    window: Window


class AllowedSegments(_Policy, frozen=True, kw_only=True, tag="allowed_segments"):
    """The only segments that releases may go to."""

    segments: Segments


class Approvals(_Policy, frozen=True, kw_only=True, tag="approvals"):
    """How many other people must have approved a release before it goes to one of the segments."""

    segments: Segments = msgspec.field(default_factory=lambda: ["general"])
    people: Annotated[int, Meta(ge=1, le=10)] = 1


class SiteShare(_Policy, frozen=True, kw_only=True, tag="site_share"):
    """At most this share of a site's devices may be updating at once; one device always may."""

    max_ratio: Annotated[float, Meta(gt=0.0, lt=1.0)]


class RequiredChecks(_Policy, frozen=True, kw_only=True, tag="required_validations"):
    """Scripts that a bundle must have under `validate/`, by their names."""

    scripts: Annotated[list[Script], Meta(min_length=1, max_length=16)]


class DriftAge(_Policy, frozen=True, kw_only=True, tag="drift_age"):
    """No release goes to a segment in which a device has drifted for longer than this (s) and nobody saw to it."""

    max_seconds: Seconds


Policy = (
    LeastAgent | Freeze | RollbackWindow | AllowedSegments | Approvals | SiteShare | RequiredChecks | DriftAge
)
Kind = Literal[
    "least_agent_version",
    "freeze",
    "rollback_window",
    "allowed_segments",
    "approvals",
    "site_share",
    "required_validations",
    "drift_age",
]


class Held(msgspec.Struct, frozen=True):
    """A policy in force, by the id that refusals name."""

    id: str
    policy: Policy

    @property
    def kind(self) -> str:
        """Which kind of policy it is."""
        return str(self.policy.__struct_config__.tag)


def read(given: Any, zones: Zones) -> Policy:
    """Return the policy that a caller sent; raises `Invalid` naming what is wrong.

    Numbers and text are not converted into each other, and what could never be kept (a zone that nobody knows, a
    freeze that ends before it begins) is refused.
    """
    try:
        policy: Policy = msgspec.convert(given, Policy)
    except msgspec.ValidationError as error:
        raise Invalid(f"The policy is refused: {str(error).replace('$.', '')}.", rule="policy") from None
    if isinstance(policy, Freeze):
        _check_freeze(policy)
    if isinstance(policy, LeastAgent) and not version_at_least(policy.version, policy.version):
        raise Invalid(f"version: {policy.version!r} is no version, like 1.4.0.", rule="policy")
    if isinstance(policy, Freeze | RollbackWindow) and policy.window is not None:
        _check_zone(policy.window, zones)
    return policy


def stored(policy: Policy) -> str:
    """Return a policy as the store keeps it; `from_store` reads it."""
    return msgspec.json.encode(policy).decode()


def from_store(text: str) -> Policy:
    """Return a policy that was `stored`."""
    policy: Policy = msgspec.json.decode(text, type=Policy)
    return policy


def _check_freeze(policy: Freeze) -> None:
    spans = policy.starts_at is not None and policy.ends_at is not None
    if spans == (policy.window is not None) or (policy.starts_at is None) != (policy.ends_at is None):
        raise Invalid("A freeze needs either a window, or starts_at and ends_at.", rule="policy")
    if policy.starts_at is not None and policy.ends_at is not None and policy.starts_at >= policy.ends_at:
        raise Invalid("ends_at: the freeze would end before it begins.", rule="policy")


def _check_zone(window: Window, zones: Zones) -> None:
    if window.zone == "device":
        raise Invalid(
            "window.zone: name a zone, like Europe/Berlin; the hub decides on a policy, and it has no device's zone.",
            rule="policy",
        )
    if zones(window.zone) is None:
        raise Invalid(
            f"window.zone: {window.zone!r} is no time zone that this hub knows, so the window would never open.",
            rule="policy",
        )
