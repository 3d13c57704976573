"""The rules of a rollout as tables: what may be promoted, what passes a gate, what halts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hub.deployment import rules
from hub.deployment.policy import FailurePolicy, Policy, SegmentPolicy
from hub.deployment.rules import Counts, Promotion
from hub.errors import Conflict, Invalid

GOOD = Counts(began=10, committed=10)


def promotion(**changes: Any) -> Promotion:
    fields: dict[str, Any] = {
        "release": "kiosk-7-aaaaaaaaaaaa",
        "sequence": 7,
        "state": "rolling",
        "segment": "canary",
        "basis_points": 10_000,
        "counts": GOOD,
        "full_seconds": 7200.0,
        "stable_sequence": 6,
    }
    return Promotion(**{**fields, **changes})


@pytest.mark.parametrize(
    ("view", "target", "share"),
    [
        pytest.param(
            promotion(state="published", segment=None, basis_points=0), "canary", 100, id="first to canary"
        ),
        pytest.param(promotion(basis_points=500), "canary", 2_000, id="a larger share of the same segment"),
        pytest.param(promotion(), "canary", 10_000, id="the same share again"),
        pytest.param(promotion(), "early", 10_000, id="the next segment after its gate"),
        pytest.param(promotion(segment="early"), "general", 100, id="general after early"),
        pytest.param(
            promotion(others=(("kiosk-5-b", 5),)), "early", 10_000, id="past an earlier release under way"
        ),
    ],
)
def test_a_promotion_that_keeps_the_rules_is_let_through(view: Promotion, target: str, share: int) -> None:
    rules.check_promotion(view, SegmentPolicy(), target, share)


@pytest.mark.parametrize(
    ("view", "target", "share", "rule"),
    [
        pytest.param(promotion(state="draft"), "canary", 1, "state", id="a draft"),
        pytest.param(promotion(state="paused"), "canary", 10_000, "state", id="a paused one"),
        pytest.param(promotion(state="halted"), "early", 10_000, "state", id="a halted one"),
        pytest.param(promotion(state="rolled_back"), "canary", 10_000, "state", id="a rolled back one"),
        pytest.param(promotion(state="superseded"), "canary", 10_000, "state", id="a superseded one"),
        pytest.param(promotion(state="complete"), "general", 10_000, "state", id="a complete one"),
        pytest.param(promotion(stable_sequence=7), "early", 1, "downgrade", id="the stable one again"),
        pytest.param(
            promotion(stable_sequence=9), "early", 1, "downgrade", id="R10 an older one than the stable"
        ),
        pytest.param(
            promotion(others=(("kiosk-8-b", 8),)),
            "early",
            1,
            "older_than_active",
            id="R11 behind a later one",
        ),
        pytest.param(
            promotion(state="published", segment=None), "early", 1, "segment_order", id="skipping canary"
        ),
        pytest.param(promotion(), "general", 1, "segment_order", id="skipping early"),
        pytest.param(
            promotion(segment="early"), "canary", 10_000, "segment_order", id="going back a segment"
        ),
        pytest.param(promotion(basis_points=5_000), "canary", 4_999, "share_lowered", id="a smaller share"),
        pytest.param(
            promotion(full_seconds=None), "early", 1, "gate_share", id="the segment was not offered whole"
        ),
        pytest.param(promotion(full_seconds=3599.0), "early", 1, "gate_wait", id="a second too early"),
        pytest.param(promotion(counts=Counts()), "early", 1, "gate_reports", id="R4 nobody reported"),
        pytest.param(
            promotion(counts=Counts(began=20, committed=18, failed=2)),
            "early",
            1,
            "gate_success",
            id="too many failures",
        ),
    ],
)
def test_a_promotion_that_breaks_a_rule_is_refused_by_its_name(
    view: Promotion, target: str, share: int, rule: str
) -> None:
    with pytest.raises(Conflict) as refusal:
        rules.check_promotion(view, SegmentPolicy(), target, share)
    assert refusal.value.rule == rule


@pytest.mark.parametrize(
    ("counts", "policy", "rule"),
    [
        pytest.param(Counts(began=1, committed=1), SegmentPolicy(), None, id="one device, one success"),
        pytest.param(
            Counts(began=1, failed=1), SegmentPolicy(success_ratio=0), "gate_reports", id="no success at all"
        ),
        pytest.param(
            Counts(began=20, committed=19, failed=1),
            SegmentPolicy(success_ratio=0.95),
            None,
            id="exactly the ratio",
        ),
        pytest.param(
            Counts(began=3, committed=2),
            SegmentPolicy(least_reports=3),
            "gate_reports",
            id="one report short",
        ),
        pytest.param(
            Counts(began=4, committed=3, lost=1), SegmentPolicy(), "gate_success", id="a lost device counts"
        ),
    ],
)
def test_the_gate_at_its_edges(counts: Counts, policy: SegmentPolicy, rule: str | None) -> None:
    if rule is None:
        rules.check_gate("r", "canary", counts, 3600.0, policy)
        return
    with pytest.raises(Conflict) as refusal:
        rules.check_gate("r", "canary", counts, 3600.0, policy)
    assert refusal.value.rule == rule


@pytest.mark.parametrize(
    ("counts", "policy", "halts"),
    [
        pytest.param(Counts(), FailurePolicy(), False, id="nobody began"),
        pytest.param(Counts(began=5), FailurePolicy(), False, id="nobody ended"),
        pytest.param(Counts(began=5, committed=5), FailurePolicy(max_ratio=0), False, id="all well"),
        pytest.param(Counts(began=1, failed=1), FailurePolicy(), True, id="the only canary failed"),
        pytest.param(Counts(began=3, rolled_back=1), FailurePolicy(), False, id="one early failure of three"),
        pytest.param(
            Counts(began=3, committed=2, rolled_back=1), FailurePolicy(), True, id="one of three, all ended"
        ),
        pytest.param(Counts(began=10, committed=9, failed=1), FailurePolicy(), False, id="exactly the ratio"),
        pytest.param(Counts(began=10, committed=8, failed=2), FailurePolicy(), True, id="above the ratio"),
        pytest.param(
            Counts(began=100, committed=43, failed=57),
            FailurePolicy(max_ratio=0.57),
            False,
            id="exactly a ratio that binary fractions miss",
        ),
        pytest.param(Counts(began=9, committed=1, lost=2), FailurePolicy(), True, id="R1 lost devices count"),
        pytest.param(
            Counts(began=1000, committed=999, failed=1), FailurePolicy(max_ratio=0), True, id="zero tolerance"
        ),
        pytest.param(
            Counts(began=1000, committed=900, failed=3),
            FailurePolicy(max_ratio=1, max_count=3),
            False,
            id="exactly the count",
        ),
        pytest.param(
            Counts(began=1000, committed=900, failed=4),
            FailurePolicy(max_ratio=1, max_count=3),
            True,
            id="above the count",
        ),
    ],
)
def test_the_halt_at_its_edges(counts: Counts, policy: FailurePolicy, halts: bool) -> None:
    assert (rules.halt_reason("canary", counts, policy) is not None) is halts


@pytest.mark.parametrize("percentage", [0, -1, 100.01, 0.001, 33.333, float("nan"), float("inf")])
def test_a_percentage_that_no_device_can_be_told_is_refused(percentage: float) -> None:
    with pytest.raises(Invalid):
        rules.basis_points(percentage)


@pytest.mark.parametrize(
    ("percentage", "share"), [(100, 10_000), (1, 100), (0.5, 50), (0.01, 1), (0.29, 29), (33.33, 3_333)]
)
def test_a_percentage_means_what_is_written(percentage: float, share: int) -> None:
    assert rules.basis_points(percentage) == share


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"failure":{"max_ratio":"0.2"}}', id="R7 a threshold as text"),
        pytest.param('{"failure":{"max_ratio":20}}', id="R7 a percentage in place of a share"),
        pytest.param('{"failure":{"max_ratio":-0.1}}', id="R7 below nothing"),
        pytest.param('{"failure":{"min_reports":0}}', id="no reports needed"),
        pytest.param('{"failure":{"max_ration":0.2}}', id="a misspelt name"),
        pytest.param('{"segments":{"canary":{"success_ratio":95}}}', id="a success percentage"),
        pytest.param('{"window":{"days":[7],"start":"01:00","end":"02:00"}}', id="an eighth day"),
        pytest.param('{"window":{"days":[0],"start":"25:00","end":"02:00"}}', id="a 25th hour"),
    ],
)
def test_a_policy_that_would_switch_something_off_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Policy)
