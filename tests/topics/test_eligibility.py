"""What a device should run: every reason as named rows, the order of the rules, and what never happens."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.topics.kit import DAY, DEVICE, NOW, desired, facts, manifest, pinned, release, signed_root
from topics.documents import Release, Requires, Window
from topics.eligibility import REASONS, Decision, Facts, bucket, decide, version_at_least
from topics.trust import TrustedDesired, TrustedManifest

SIX, SEVEN, EIGHT = release(6), release(7), release(8)
PLACE = bucket(EIGHT.id, DEVICE)
"""Where the device stands in the rollout of release 8: the candidate reaches it at share PLACE + 1."""

ALWAYS_SHUT = Window(days=[0, 1, 2, 3, 4, 5, 6], start="00:00", end="23:59", zone="Mars/Olympus")


@dataclass(frozen=True)
class Case:
    """The hub's side (manifest, desired state) and the device's (facts). It runs 6 and is offered 7."""

    stable: Release | None = SEVEN
    candidate: Release | None = None
    share: int = 0
    paused: bool = False
    rollback_from: int = 0
    waypoints: tuple[Release, ...] = ()
    window: Window | None = None
    expires_at: int = NOW + 7 * DAY
    role: str = "kiosk"
    offered: bool = True
    lock: Release | None = None
    maintenance: bool = False
    safe_mode: str = "auto"
    quarantine: str = ""
    told: bool = True
    root_expires_at: int = NOW + 365 * DAY
    now: int = NOW
    facts: Facts = field(default_factory=facts)

    def decide(self) -> Decision:
        """Return the decision on this case."""
        document = manifest(
            stable=None,
            role=self.role,
            basis_points=self.share,
            paused=self.paused,
            rollback_from=self.rollback_from,
            window=self.window,
            expires_at=self.expires_at,
        )
        own = desired(maintenance=self.maintenance, safe_mode=self.safe_mode, quarantine=self.quarantine)
        return decide(
            pinned(signed_root(expires_at=self.root_expires_at)),
            TrustedManifest(document, self.stable, self.candidate, self.waypoints) if self.offered else None,
            TrustedDesired(own, self.lock) if self.told else None,
            self.facts,
            self.now,
        )


def on(release_: Release | None, **changes: Any) -> Facts:
    """Return the facts of a device that runs `release_`."""
    running = (release_.id, release_.sequence) if release_ else (None, 0)
    return facts(running=running[0], running_sequence=running[1], **changes)


def needing(sequence: int = 7, **requires: Any) -> Release:
    return release(sequence, requires=Requires(**requires))


FAILED_SEVEN = on(SIX, failed=(SEVEN.id,))
STEP = needing(9, from_sequence=6)
FAR = needing(12, from_sequence=9)

CASES = [
    # eligible
    pytest.param(Case(), "eligible", SEVEN, id="a newer stable release"),
    pytest.param(Case(told=False), "eligible", SEVEN, id="no desired state yet"),
    pytest.param(Case(facts=on(None)), "eligible", SEVEN, id="nothing installed yet"),
    pytest.param(Case(candidate=EIGHT, share=10_000), "eligible", EIGHT, id="the candidate at full share"),
    pytest.param(Case(candidate=EIGHT, share=PLACE + 1), "eligible", EIGHT, id="the share just reaches the device"),
    pytest.param(
        Case(candidate=EIGHT, share=PLACE), "eligible", SEVEN, id="outside the share, and behind stable: stable"
    ),
    pytest.param(Case(lock=EIGHT), "eligible", EIGHT, id="locked to a release it does not run yet"),
    pytest.param(Case(lock=SIX, facts=on(SEVEN)), "eligible", SIX, id="locked to an earlier release"),
    pytest.param(Case(lock=SIX, facts=on(SEVEN), paused=True), "eligible", SIX, id="a lock goes past a pause"),
    pytest.param(
        Case(stable=SIX, rollback_from=7, facts=on(SEVEN)), "eligible", SIX, id="rollback ordered from what it runs"
    ),
    pytest.param(
        Case(stable=SIX, rollback_from=9, facts=on(SEVEN)), "eligible", SIX, id="rollback ordered from a later one"
    ),
    pytest.param(
        Case(paused=True, facts=on(None)), "eligible", SEVEN, id="paused, but nothing installed: stable"
    ),
    pytest.param(
        Case(paused=True, candidate=EIGHT, share=10_000, facts=on(None)), "eligible", SEVEN,
        id="paused, nothing installed and a candidate: stable all the same",
    ),
    pytest.param(
        Case(facts=on(SIX, failed=(SEVEN.id,), retry=SEVEN.id)), "eligible", SEVEN, id="failed here, redeploy names it"
    ),
    pytest.param(
        Case(facts=on(SIX, safe_mode=True, retry=SEVEN.id)), "eligible", SEVEN, id="safe mode, redeploy names it"
    ),
    pytest.param(
        Case(quarantine="drift", facts=on(SIX, retry=SEVEN.id)), "eligible", SEVEN,
        id="held in quarantine, redeploy names it",
    ),
    pytest.param(
        Case(safe_mode="on", facts=on(SIX, retry=SEVEN.id)), "eligible", SEVEN,
        id="ordered into safe mode, redeploy names it",
    ),
    pytest.param(Case(safe_mode="cleared:41-1"), "eligible", SEVEN, id="safe mode cleared"),
    pytest.param(Case(stable=needing(hardware=["imx8", "rpi4"])), "eligible", SEVEN, id="listed hardware"),
    pytest.param(Case(stable=needing(min_agent="1.2")), "eligible", SEVEN, id="exactly the agent it needs"),
    pytest.param(Case(stable=needing(from_sequence=6)), "eligible", SEVEN, id="exactly the release it needs"),
    pytest.param(Case(stable=FAR, waypoints=(STEP,)), "eligible", STEP, id="by way of a waypoint"),
    pytest.param(
        Case(stable=FAR, waypoints=(release(7), STEP, release(8))), "eligible", STEP, id="the highest fitting waypoint"
    ),
    pytest.param(
        Case(stable=FAR, waypoints=(STEP,), facts=on(STEP)), "eligible", FAR, id="past the waypoint: the target"
    ),
    pytest.param(Case(stable=FAR, facts=on(None)), "eligible", FAR, id="nothing installed needs no waypoint"),
    pytest.param(Case(facts=on(SIX, floor=7)), "eligible", SEVEN, id="exactly at the floor"),
    pytest.param(Case(facts=on(SIX, failed=(EIGHT.id,))), "eligible", SEVEN, id="another release failed here"),
    pytest.param(Case(expires_at=NOW + 1), "eligible", SEVEN, id="the manifest's last millisecond"),
    # already_installed
    pytest.param(Case(facts=on(SEVEN)), "already_installed", SEVEN, id="runs stable"),
    pytest.param(Case(facts=on(SEVEN), paused=True), "already_installed", SEVEN, id="runs stable, paused"),
    pytest.param(
        Case(candidate=EIGHT, share=10_000, facts=on(EIGHT)), "already_installed", EIGHT, id="runs the candidate"
    ),
    pytest.param(
        Case(candidate=EIGHT, share=0, facts=on(EIGHT)), "already_installed", EIGHT,
        id="runs the candidate, whatever the share: it is not sent back",
    ),
    pytest.param(
        Case(candidate=EIGHT, share=10_000, paused=True, facts=on(EIGHT)), "already_installed", EIGHT,
        id="runs the candidate when it is paused",
    ),
    pytest.param(
        Case(facts=on(SEVEN, safe_mode=True, failed=(SEVEN.id,))), "already_installed", SEVEN, id="runs it in safe mode"
    ),
    pytest.param(Case(lock=SEVEN, facts=on(SEVEN)), "already_installed", SEVEN, id="locked to stable, which it runs"),
    # nothing_offered
    pytest.param(Case(offered=False), "nothing_offered", None, id="no manifest"),
    pytest.param(Case(stable=None), "nothing_offered", None, id="an empty manifest"),
    # segment_not_reached, not_in_percentage
    pytest.param(
        Case(candidate=EIGHT, share=0, facts=on(SEVEN)), "segment_not_reached", EIGHT, id="the candidate at share 0"
    ),
    pytest.param(
        Case(stable=None, candidate=EIGHT, share=0), "segment_not_reached", EIGHT, id="only a candidate, at share 0"
    ),
    pytest.param(
        Case(candidate=EIGHT, share=PLACE, facts=on(SEVEN)), "not_in_percentage", EIGHT, id="the share just misses it"
    ),
    pytest.param(
        Case(stable=None, candidate=EIGHT, share=PLACE, facts=on(None)), "not_in_percentage", EIGHT,
        id="only a candidate, outside the share",
    ),
    # paused
    pytest.param(Case(paused=True), "paused", SEVEN, id="paused on the way to stable"),
    pytest.param(
        Case(paused=True, candidate=EIGHT, share=10_000, facts=on(SEVEN)), "paused", EIGHT,
        id="within the share of a paused candidate",
    ),
    pytest.param(
        Case(paused=True, stable=SIX, rollback_from=7, facts=on(SEVEN)), "eligible", SIX,
        id="a rollback ordered over a pause",
    ),
    pytest.param(
        Case(paused=True, stable=None, candidate=EIGHT, share=10_000, facts=on(None)), "paused", EIGHT,
        id="paused, nothing installed, only a candidate",
    ),
    pytest.param(Case(paused=True, expires_at=0), "paused", SEVEN, id="an expired manifest still pauses"),
    # version_locked
    pytest.param(Case(lock=SIX), "version_locked", None, id="locked to what it runs, stable is another"),
    pytest.param(
        Case(lock=SIX, candidate=EIGHT, share=10_000), "version_locked", EIGHT, id="locked, the candidate is another"
    ),
    # maintenance, quarantined
    pytest.param(Case(maintenance=True), "maintenance", SEVEN, id="in maintenance"),
    pytest.param(Case(maintenance=True, lock=EIGHT), "maintenance", EIGHT, id="in maintenance holds a lock too"),
    pytest.param(Case(facts=on(SIX, safe_mode=True)), "quarantined", SEVEN, id="in safe mode"),
    pytest.param(Case(safe_mode="on"), "quarantined", SEVEN, id="ordered into safe mode"),
    pytest.param(
        Case(facts=on(SIX, safe_mode=True, retry=EIGHT.id)), "quarantined", SEVEN, id="redeploy names another release"
    ),
    pytest.param(Case(quarantine="drift"), "quarantined", SEVEN, id="held in quarantine"),
    pytest.param(
        Case(quarantine="drift", lock=EIGHT), "quarantined", EIGHT, id="held in quarantine, a lock too"
    ),
    pytest.param(
        Case(quarantine="drift", stable=SIX, rollback_from=7, facts=on(SEVEN)), "quarantined", SIX,
        id="held in quarantine, a rollback too",
    ),
    # wrong_role
    pytest.param(Case(role="gateway"), "wrong_role", None, id="a manifest of another role"),
    pytest.param(Case(lock=release(role="gateway")), "wrong_role", release(role="gateway"), id="a lock elsewhere"),
    # wrong_hardware, agent_too_old
    pytest.param(
        Case(stable=needing(hardware=["imx8"])), "wrong_hardware", needing(hardware=["imx8"]), id="unlisted hardware"
    ),
    pytest.param(
        Case(stable=needing(hardware=["rpi4"]), facts=on(SIX, hardware="")), "wrong_hardware",
        needing(hardware=["rpi4"]), id="hardware that nobody named",
    ),
    pytest.param(
        Case(stable=needing(hardware=["RPI4"])), "wrong_hardware", needing(hardware=["RPI4"]), id="case matters"
    ),
    pytest.param(
        Case(stable=needing(min_agent="1.3")), "agent_too_old", needing(min_agent="1.3"), id="an older agent"
    ),
    pytest.param(
        Case(stable=needing(min_agent="1.10")), "agent_too_old", needing(min_agent="1.10"), id="1.2 is before 1.10"
    ),
    pytest.param(
        Case(stable=needing(min_agent="soon")), "agent_too_old", needing(min_agent="soon"),
        id="a version nobody can read",
    ),
    # needs_earlier_release
    pytest.param(Case(stable=FAR), "needs_earlier_release", FAR, id="no waypoint"),
    pytest.param(
        Case(stable=FAR, waypoints=(needing(9, from_sequence=8),)), "needs_earlier_release", FAR,
        id="the waypoint itself needs another",
    ),
    pytest.param(
        Case(stable=FAR, waypoints=(SIX, release(12), release(13))), "needs_earlier_release", FAR,
        id="waypoints that are not on the way",
    ),
    pytest.param(
        Case(stable=FAR, waypoints=(needing(9, hardware=["imx8"]),)), "needs_earlier_release", FAR,
        id="the waypoint is for other hardware",
    ),
    pytest.param(
        Case(stable=FAR, waypoints=(STEP,), facts=on(SIX, floor=10)), "needs_earlier_release", FAR,
        id="the waypoint is below the floor",
    ),
    # failed_here_before
    pytest.param(Case(facts=FAILED_SEVEN), "failed_here_before", SEVEN, id="failed here"),
    pytest.param(
        Case(facts=on(SIX, failed=(SEVEN.id,), retry=EIGHT.id)), "failed_here_before", SEVEN,
        id="failed here, redeploy names another",
    ),
    pytest.param(
        Case(stable=FAR, waypoints=(STEP,), facts=on(SIX, failed=(STEP.id,))), "failed_here_before", STEP,
        id="the waypoint failed here",
    ),
    pytest.param(
        Case(lock=SEVEN, facts=FAILED_SEVEN), "failed_here_before", SEVEN, id="locked to what failed here"
    ),
    # below_floor, holds_newer
    pytest.param(Case(facts=on(SIX, floor=8)), "below_floor", SEVEN, id="below the floor"),
    pytest.param(Case(facts=on(None, floor=8)), "below_floor", SEVEN, id="below the floor, nothing installed"),
    pytest.param(
        Case(stable=SIX, rollback_from=7, facts=on(SEVEN, floor=7)), "below_floor", SIX, id="a rollback below the floor"
    ),
    pytest.param(Case(lock=SIX, facts=on(SEVEN, floor=7)), "below_floor", SIX, id="a lock below the floor"),
    pytest.param(Case(stable=SIX, facts=on(SEVEN)), "holds_newer", SIX, id="stable is older and no rollback ordered"),
    pytest.param(
        Case(stable=SIX, rollback_from=6, facts=on(SEVEN)), "holds_newer", SIX,
        id="a rollback ordered from an earlier one than it runs",
    ),
    pytest.param(
        Case(stable=release(5), candidate=SIX, share=10_000, facts=on(SEVEN)), "holds_newer", SIX,
        id="an older candidate: no downgrade by accident",
    ),
    pytest.param(
        Case(facts=facts(running="till-9-aaaaaaaaaaaa", running_sequence=9, running_role="till")), "eligible", SEVEN,
        id="moved from another role, whose sequences mean nothing here",
    ),
    pytest.param(
        Case(facts=facts(segment="general")), "nothing_offered", None, id="moved to another segment, not yet told"
    ),
    # manifest_expired, outside_window
    pytest.param(Case(expires_at=NOW), "manifest_expired", SEVEN, id="expired this very millisecond"),
    pytest.param(Case(expires_at=NOW, facts=on(None)), "manifest_expired", SEVEN, id="expired, nothing installed"),
    pytest.param(
        Case(expires_at=NOW - DAY, now=0), "manifest_expired", SEVEN,
        id="expired when issued, on a clock that stands in 1970",
    ),
    pytest.param(Case(window=ALWAYS_SHUT), "outside_window", SEVEN, id="a window in a zone nobody knows"),
    # untrusted
    pytest.param(Case(root_expires_at=NOW), "untrusted", None, id="an expired root"),
    pytest.param(
        Case(offered=False, facts=on(SIX, refused="release_threshold")), "untrusted", None, id="a refused manifest"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("case", "reason", "release_"), CASES)
def test_decision(case: Case, reason: str, release_: Release | None) -> None:
    decision = case.decide()
    assert decision.reason == reason
    assert decision.eligible == (reason == "eligible")
    named = decision.release.id if decision.release else None
    assert named == (release_.id if release_ else None)


def test_every_reason_has_a_row() -> None:
    assert {str(row.values[1]) for row in CASES} == set(REASONS)


@pytest.mark.parametrize(
    ("case", "check"),
    [
        pytest.param(Case(root_expires_at=NOW), "root_expired", id="the root"),
        pytest.param(
            Case(offered=False, facts=on(SIX, refused="replayed")),
            "replayed",
            id="what the last manifest failed",
        ),
        pytest.param(Case(), "", id="nothing"),
    ],
)
def test_untrusted_names_the_check_that_refused(case: Case, check: str) -> None:
    assert case.decide().check == check


@pytest.mark.parametrize(
    ("case", "ordered"),
    [
        pytest.param(Case(), False, id="an update"),
        pytest.param(Case(stable=SIX, rollback_from=7, facts=on(SEVEN)), True, id="a rollback"),
        pytest.param(Case(lock=EIGHT), True, id="a lock forwards"),
        pytest.param(Case(lock=SIX, facts=on(SEVEN)), True, id="a lock backwards"),
        pytest.param(Case(rollback_from=6), False, id="an update after a rollback of what it runs"),
    ],
)
def test_only_what_the_hub_orders_counts_as_ordered(case: Case, ordered: bool) -> None:
    """An ordered step back is no failure of the release."""
    decision = case.decide()
    assert decision.eligible
    assert decision.ordered is ordered


def test_rules_answer_in_their_order() -> None:
    """With everything wrong at once, mending one thing after the other walks down the list of rules."""
    wrong = needing(hardware=["imx8"], min_agent="2.0", from_sequence=20)
    running = {"running": release(9).id, "running_sequence": 9}
    case = Case(
        stable=wrong,
        paused=True,
        role="gateway",
        maintenance=True,
        expires_at=NOW,
        window=ALWAYS_SHUT,
        root_expires_at=NOW,
        facts=facts(**running, safe_mode=True, floor=8, failed=(wrong.id,)),
    )
    fits = needing(from_sequence=20, min_agent="2.0")
    steps: list[tuple[str, dict[str, Any]]] = [
        ("untrusted", {"root_expires_at": NOW + DAY}),
        ("wrong_role", {"role": "kiosk"}),
        ("quarantined", {"facts": facts(**running, floor=8, failed=(wrong.id,))}),
        ("maintenance", {"maintenance": False}),
        ("paused", {"paused": False}),
        ("below_floor", {"facts": facts(**running, failed=(wrong.id,))}),
        ("holds_newer", {"rollback_from": 9}),
        ("wrong_hardware", {"stable": fits}),
        ("agent_too_old", {"stable": needing(from_sequence=20)}),
        ("needs_earlier_release", {"stable": SEVEN}),
        ("failed_here_before", {"facts": facts(**running)}),
        ("manifest_expired", {"expires_at": NOW + DAY}),
        ("outside_window", {"window": None}),
    ]
    for reason, mended in steps:
        assert case.decide().reason == reason
        case = replace(case, **mended)
    assert case.decide().reason == "eligible"


def test_a_month_asleep_needs_one_message() -> None:
    """The first manifest it reads is a rollback from a release it took a month ago: it goes down at once."""
    case = Case(stable=SIX, rollback_from=8, facts=on(SEVEN))
    assert case.decide().release == SIX
    assert replace(case, facts=on(release(5))).decide().release == SIX, (
        "and one that never went up just updates"
    )


def test_after_a_rollback_the_next_candidate_is_taken() -> None:
    """The order to go back names a sequence, so it does not hold the device for ever."""
    case = Case(stable=SIX, rollback_from=8, candidate=release(9), share=10_000, facts=on(SIX))
    assert case.decide().release == release(9)


@pytest.mark.parametrize(
    ("version", "least", "enough"),
    [
        ("1.2.0", "1.2", True),
        ("1.2", "1.2.0", True),
        ("1.10", "1.9", True),
        ("1.9", "1.10", False),
        ("2", "1.99.99", True),
        ("0", "0", True),
        ("1.2.0rc1", "1.0", False),
        ("1.2", "1.x", False),
        ("", "0", False),
        ("1..2", "1", False),
        ("-1", "0", False),
        ("１.２", "0", False),
        ("²", "0", False),
        ("1" * 400, "0", False),
    ],
)
def test_version_compare(version: str, least: str, enough: bool) -> None:
    assert version_at_least(version, least) is enough


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        pytest.param({"quarantine": "drift: a file"}, "drift: a file", id="the hub's reason"),
        pytest.param(
            {"facts": on(SIX, safe_mode=True)}, "the device is in safe mode", id="its own safe mode"
        ),
        pytest.param({"safe_mode": "on"}, "safe mode is ordered", id="ordered safe mode"),
    ],
)
def test_who_is_quarantined_is_told_why(changes: dict[str, Any], detail: str) -> None:
    assert Case(**changes).decide().detail == detail
