"""Whether a device may take a release at a technician's hand. Pure."""

from __future__ import annotations

from typing import cast

import msgspec

from edge.machine import clock
from topics.documents import Manifest, Release, Segment
from topics.eligibility import Decision, Facts, decide
from topics.trust import TrustedManifest, TrustState


def judge(trusted: TrustState, facts: Facts, release: Release, now: int, *, older: bool) -> Decision:
    """Return what `decide` says of `release` at `now` (ms), as if it were all that is on offer. Rules:

    1. What the hub says of this device (share, pause, window, version lock, maintenance, quarantine) is passed over,
       and so is that the release failed here before: whoever stands beside the device knows why they do this.
    2. An expired root, another role or fleet, the floor, hardware, the agent's version and an earlier release that is
       needed are judged as ever.
    3. A release older than the running one is taken with `older` only.
    """
    retried = msgspec.structs.replace(facts, retry=release.id)
    manifest = Manifest(
        to="",
        fleet=trusted.fleet,
        role=release.role,
        segment=cast(Segment, facts.segment),
        issued_at=0,
        expires_at=now + 1,
        event="rollback" if older else "update_available",
        rollback_from=facts.running_sequence if older else 0,
    )
    return decide(trusted, TrustedManifest(manifest, release, None, ()), None, retried, now, clock.zones)


def sentence(decision: Decision, release: Release, facts: Facts) -> str:
    """Return why `release` is refused, and the way out."""
    words = {
        "wrong_role": f"it is of role {release.role}, this device is a {facts.role}; bring a release of that role",
        "below_floor": "the fleet's releases forbid going back that far; bring a newer one",
        "holds_newer": f"{facts.running} runs here and is newer; give --older to go back on purpose",
        "wrong_hardware": f"{decision.detail}; bring a release for this hardware",
        "agent_too_old": f"{decision.detail}; update the agent first",
        "needs_earlier_release": f"{decision.detail}; install that one first",
        "untrusted": "the root of trust has expired; bring a file that has the next root",
    }
    return f"{release.id} is refused: {words.get(decision.reason, decision.reason)}"
