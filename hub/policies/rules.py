"""Whether policies let something through: pure. What is decided on is an argument, the time too.

| kind | refuses |
| --- | --- |
| `least_agent_version` | a start of a release that asks for an older agent, or for none |
| `freeze` | any start while it lasts; its first instant is in it, its last is not |
| `rollback_window` | outside the window, withdrawing a release that is complete; one under way is at any time |
| `allowed_segments` | a start in a segment that is not listed |
| `approvals` | a start in a listed segment before enough other people approved it there |
| `site_share` | a start by which more of a site's devices than the share would be updating at once |
| `required_validations` | a start of a release whose bundle lacks one of the scripts |
| `drift_age` | a start in a segment with a drift that is older than the limit; exactly as old is not |

A start is a promotion, also one that a rule of the hub makes, and a resumption. Pausing and halting are never refused.
A resumption offers nothing that was not offered before, so only a freeze refuses it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final, Literal

import msgspec

from hub.policies.documents import (
    AllowedSegments,
    Approvals,
    DriftAge,
    Freeze,
    Held,
    LeastAgent,
    Policy,
    RequiredChecks,
    RollbackWindow,
    SiteShare,
)
from topics.eligibility import Zones, in_window, version_at_least

LASTING: Final = ("least_agent_version", "allowed_segments", "required_validations")
"""Kinds whose refusal no waiting mends: only another release, or another policy."""


class Site(msgspec.Struct, frozen=True):
    """How many devices a site has, and how many of them would be updating at once."""

    devices: int
    updating: int


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to do, and what the policies look at. Only what a policy needs has to be filled in.

    `drifted_since` is since when (ms) the oldest drift in the segment stands, None without one.
    """

    verb: Literal["promote", "resume", "rollback"]
    role: str
    now: int
    segment: str = ""
    min_agent: str = "0"
    scripts: frozenset[str] = frozenset()
    approved_by: frozenset[str] = frozenset()
    asked_by: frozenset[str] = frozenset()
    sites: Mapping[str, Site] = {}
    drifted_since: int | None = None


class Refusal(msgspec.Struct, frozen=True):
    """Which policy refuses, and why in one sentence."""

    policy: str
    kind: str
    detail: str

    @property
    def rule(self) -> str:
        """The stable word for it in answers."""
        return f"policy.{self.kind}"

    @property
    def is_lasting(self) -> bool:
        """Whether waiting would not mend it."""
        return self.kind in LASTING


def refusals(policies: Sequence[Held], action: Action, zones: Zones) -> list[Refusal]:
    """Return every refusal of `action`, in the order of `policies`."""
    found = []
    for held in policies:
        if held.policy.role in (None, action.role) and (why := _why(held.policy, action, zones)):
            found.append(Refusal(held.id, held.kind, f"Policy {held.id} ({held.kind}) refuses: {why}."))
    return found


def _why(policy: Policy, action: Action, zones: Zones) -> str:
    """Return why `policy` refuses `action`, "" when it does not."""
    if isinstance(policy, RollbackWindow):
        return _rollback(policy, action, zones)
    if isinstance(policy, Freeze):
        return _freeze(policy, action, zones)
    if action.verb != "promote":
        return ""
    match policy:
        case LeastAgent():
            return _agent(policy, action)
        case AllowedSegments():
            return _segment(policy, action)
        case Approvals():
            return _approval(policy, action)
        case SiteShare():
            return _site(policy, action)
        case RequiredChecks():
            return _scripts(policy, action)
        case DriftAge():
            return _drift(policy, action)


def _rollback(policy: RollbackWindow, action: Action, zones: Zones) -> str:
    if action.verb != "rollback" or in_window(policy.window, policy.window.zone, action.now, zones):
        return ""
    window = policy.window
    return f"devices are forced back only from {window.start} to {window.end} ({window.zone})"


def _freeze(policy: Freeze, action: Action, zones: Zones) -> str:
    if action.verb == "rollback":
        return ""
    if policy.window is not None:
        if zones(policy.window.zone) is not None and not in_window(
            policy.window, policy.window.zone, action.now, zones
        ):
            return ""
        return f"nothing starts from {policy.window.start} to {policy.window.end} ({policy.window.zone})"
    if policy.starts_at is None or policy.ends_at is None:
        raise ValueError("a freeze without window and end")
    starts, ends = policy.starts_at.timestamp() * 1000, policy.ends_at.timestamp() * 1000
    return f"nothing starts before {policy.ends_at.isoformat()}" if starts <= action.now < ends else ""


def _agent(policy: LeastAgent, action: Action) -> str:
    if version_at_least(action.min_agent, policy.version):
        return ""
    asks = f"agent {action.min_agent}" if action.min_agent != "0" else "any agent"
    return f"the release asks for {asks}, and must ask for {policy.version} or later"


def _segment(policy: AllowedSegments, action: Action) -> str:
    if action.segment in policy.segments:
        return ""
    return f"releases go to {', '.join(policy.segments)} only, not to {action.segment}"


def _approval(policy: Approvals, action: Action) -> str:
    if action.segment not in policy.segments:
        return ""
    others = action.approved_by - action.asked_by
    if len(others) >= policy.people:
        return ""
    needed = "another person" if policy.people == 1 else f"{policy.people} other people"
    return f"{needed} must approve it for {action.segment}, and {len(others) or 'nobody'} did"


def _site(policy: SiteShare, action: Action) -> str:
    for name, site in sorted(action.sites.items()):
        most = max(1, math.floor(Fraction(str(policy.max_ratio)) * site.devices))
        if site.updating > most:
            return (
                f"{site.updating} of {site.devices} devices at {name} would be updating at once, and {most} may; "
                "promote to a smaller share first"
            )
    return ""


def _scripts(policy: RequiredChecks, action: Action) -> str:
    missing = [name for name in policy.scripts if name not in action.scripts]
    return f"its bundle has no validate/{missing[0]}" if missing else ""


def _drift(policy: DriftAge, action: Action) -> str:
    if action.drifted_since is None or action.now - action.drifted_since <= policy.max_seconds * 1000:
        return ""
    hours = (action.now - action.drifted_since) / 3_600_000
    return (
        f"a device in {action.segment} has drifted for {hours:.1f} hours; repair it, or put it right, first"
    )
