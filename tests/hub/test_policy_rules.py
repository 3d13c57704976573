"""Fleet policies, pure: what each refuses and what it lets through, one row each."""

from __future__ import annotations

from datetime import datetime
from typing import Any, get_args

import pytest

from hub.errors import Invalid
from hub.policies import documents
from hub.policies.documents import Held, Kind
from hub.policies.rules import LASTING, Action, Site, refusals
from hub.times import zones

DAYS = [0, 1, 2, 3, 4, 5, 6]
BERLIN = "Europe/Berlin"


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


NOW = at("2026-11-25T10:00:00+01:00")


def window(start: str, end: str, zone: str = BERLIN, days: list[int] = DAYS) -> dict[str, Any]:
    return {"days": days, "start": start, "end": end, "zone": zone}


def why(policy: dict[str, Any], **action: Any) -> str:
    """Return what a policy says to an action, "" when it lets it through."""
    held = Held("p1", documents.read(policy, zones))
    asked = Action(**{"verb": "promote", "role": "kiosk", "segment": "general", "now": NOW, **action})
    found = refusals([held], asked, zones)
    assert [one.kind for one in found] == ([policy["kind"]] if found else [])
    return found[0].detail if found else ""


LEAST = {"kind": "least_agent_version", "version": "1.4"}
FREEZE = {"kind": "freeze", "window": window("22:00", "06:00")}
HOLIDAYS = {
    "kind": "freeze",
    "starts_at": "2026-12-20T00:00:00+01:00",
    "ends_at": "2027-01-02T00:00:00+01:00",
}
ROLLBACKS = {"kind": "rollback_window", "window": window("01:00", "04:00")}
SEGMENTS = {"kind": "allowed_segments", "segments": ["canary", "early"]}
APPROVALS = {"kind": "approvals", "people": 1}
TWO = {"kind": "approvals", "people": 2, "segments": ["early", "general"]}
SHARE = {"kind": "site_share", "max_ratio": 0.25}
CHECKS = {"kind": "required_validations", "scripts": ["health", "printer"]}
DRIFT = {"kind": "drift_age", "max_seconds": 3_600}

ROWS = [
    pytest.param(LEAST, {"min_agent": "1.4"}, False, id="least agent: exactly as asked"),
    pytest.param(LEAST, {"min_agent": "1.10"}, False, id="least agent: 1.10 is later than 1.4"),
    pytest.param(LEAST, {"min_agent": "1.3.9"}, True, id="least agent: older"),
    pytest.param(LEAST, {}, True, id="least agent: the release asks for none"),
    pytest.param(LEAST, {"min_agent": "new"}, True, id="least agent: a version that nobody can read"),
    pytest.param(LEAST, {"verb": "resume"}, False, id="least agent: a resumption offers nothing new"),
    pytest.param({**LEAST, "role": "gateway"}, {}, False, id="least agent: of another role"),
    pytest.param({**LEAST, "role": "kiosk"}, {}, True, id="least agent: of this role"),
    pytest.param(FREEZE, {"now": at("2026-11-25T21:59:59+01:00")}, False, id="freeze: a second before"),
    pytest.param(FREEZE, {"now": at("2026-11-25T22:00:00+01:00")}, True, id="freeze: its first instant"),
    pytest.param(FREEZE, {"now": at("2026-11-26T05:59:59+01:00")}, True, id="freeze: past midnight"),
    pytest.param(FREEZE, {"now": at("2026-11-26T06:00:00+01:00")}, False, id="freeze: its end"),
    pytest.param(FREEZE, {"verb": "resume", "now": at("2026-11-25T23:00+01:00")}, True, id="freeze: resume"),
    pytest.param(
        FREEZE, {"verb": "rollback", "now": at("2026-11-25T23:00+01:00")}, False, id="freeze: rollback"
    ),
    pytest.param(HOLIDAYS, {"now": at("2026-12-19T23:59:59+01:00")}, False, id="freeze: before the holidays"),
    pytest.param(HOLIDAYS, {"now": at("2026-12-20T00:00:00+01:00")}, True, id="freeze: the holidays begin"),
    pytest.param(
        HOLIDAYS, {"now": at("2026-12-19T23:00:00Z")}, True, id="freeze: the same instant elsewhere"
    ),
    pytest.param(HOLIDAYS, {"now": at("2027-01-01T23:59:59+01:00")}, True, id="freeze: their last second"),
    pytest.param(HOLIDAYS, {"now": at("2027-01-02T00:00:00+01:00")}, False, id="freeze: they are over"),
    pytest.param(ROLLBACKS, {"verb": "rollback"}, True, id="rollback window: at ten in the morning"),
    pytest.param(
        ROLLBACKS,
        {"verb": "rollback", "now": at("2026-11-25T01:00+01:00")},
        False,
        id="rollback window: open",
    ),
    pytest.param(
        ROLLBACKS,
        {"verb": "rollback", "now": at("2026-11-25T04:00+01:00")},
        True,
        id="rollback window: its end",
    ),
    pytest.param(ROLLBACKS, {}, False, id="rollback window: a promotion is none of its business"),
    pytest.param(SEGMENTS, {"segment": "early"}, False, id="allowed segments: listed"),
    pytest.param(SEGMENTS, {}, True, id="allowed segments: not listed"),
    pytest.param(SEGMENTS, {"verb": "rollback"}, False, id="allowed segments: the way back is open"),
    pytest.param(APPROVALS, {"asked_by": frozenset({"ann"})}, True, id="approvals: nobody"),
    pytest.param(
        APPROVALS,
        {"asked_by": frozenset({"ann"}), "approved_by": frozenset({"ann"})},
        True,
        id="approvals: the asker's own does not count",
    ),
    pytest.param(
        APPROVALS,
        {"asked_by": frozenset({"ann"}), "approved_by": frozenset({"ann", "bob"})},
        False,
        id="approvals: a second person",
    ),
    pytest.param(APPROVALS, {"segment": "canary"}, False, id="approvals: a segment that needs none"),
    pytest.param(
        TWO,
        {"asked_by": frozenset({"ann"}), "approved_by": frozenset({"bob"})},
        True,
        id="approvals: one of two",
    ),
    pytest.param(TWO, {"approved_by": frozenset({"bob", "eve"})}, False, id="approvals: two of two"),
    pytest.param(SHARE, {"sites": {"shop": Site(40, 10)}}, False, id="site share: exactly the share"),
    pytest.param(SHARE, {"sites": {"shop": Site(40, 11)}}, True, id="site share: one more"),
    pytest.param(SHARE, {"sites": {"kiosk": Site(1, 1)}}, False, id="site share: one device always may"),
    pytest.param(SHARE, {"sites": {"pair": Site(2, 2)}}, True, id="site share: both of two"),
    pytest.param(
        SHARE, {"sites": {"a": Site(40, 0), "b": Site(8, 3)}}, True, id="site share: one site of two"
    ),
    pytest.param(SHARE, {}, False, id="site share: no sites"),
    pytest.param(
        {**SHARE, "max_ratio": 0.29},
        {"sites": {"shop": Site(100, 29)}},
        False,
        id="site share: 0.29 means 0.29",
    ),
    pytest.param(
        CHECKS, {"scripts": frozenset({"health", "printer", "x"})}, False, id="validations: all there"
    ),
    pytest.param(CHECKS, {"scripts": frozenset({"health"})}, True, id="validations: one missing"),
    pytest.param(CHECKS, {}, True, id="validations: none"),
    pytest.param(DRIFT, {"drifted_since": None}, False, id="drift age: no drift"),
    pytest.param(DRIFT, {"drifted_since": NOW - 3_600_000}, False, id="drift age: exactly as old as may be"),
    pytest.param(DRIFT, {"drifted_since": NOW - 3_600_001}, True, id="drift age: older"),
]


@pytest.mark.parametrize(("policy", "action", "refuses"), ROWS)
def test_a_policy_refuses_what_it_should_and_nothing_else(
    policy: dict[str, Any], action: dict[str, Any], refuses: bool
) -> None:
    said = why(policy, **action)
    assert bool(said) is refuses
    assert not refuses or said.startswith(f"Policy p1 ({policy['kind']}) refuses: ")


def test_every_kind_of_policy_has_rows_that_refuse_and_rows_that_let_through() -> None:
    tried = {(row.values[0]["kind"], row.values[2]) for row in ROWS}  # type: ignore[index]
    assert tried == {(kind, refuses) for kind in get_args(Kind) for refuses in (True, False)}


@pytest.mark.parametrize(
    ("moment", "frozen"),
    [
        pytest.param("2026-10-25T02:30:00+02:00", True, id="2:30 comes twice in autumn: the first"),
        pytest.param("2026-10-25T02:30:00+01:00", True, id="2:30 comes twice in autumn: the second"),
        pytest.param("2026-10-25T03:00:00+01:00", False, id="the end comes once"),
        pytest.param("2026-03-29T01:59:59+01:00", False, id="before 2:00 in spring"),
        pytest.param("2026-03-29T03:00:00+02:00", False, id="2:00 to 3:00 does not come in spring"),
    ],
)
def test_a_freeze_follows_the_clock_on_the_wall_through_daylight_saving(moment: str, frozen: bool) -> None:
    assert bool(why({"kind": "freeze", "window": window("02:00", "03:00")}, now=at(moment))) is frozen


@pytest.mark.parametrize(
    ("zone", "refuses"),
    [
        pytest.param("Pacific/Kiritimati", True, id="already Saturday there"),
        pytest.param("Pacific/Pago_Pago", False, id="still Friday there"),
        pytest.param("Asia/Kathmandu", False, id="a quarter of an hour off"),
    ],
)
def test_the_day_of_a_window_is_that_of_its_zone(zone: str, refuses: bool) -> None:
    friday_evening = at("2026-11-27T11:00:00Z")
    saturdays = {"kind": "freeze", "window": window("00:00", "00:00", zone, [5])}
    assert bool(why(saturdays, now=friday_evening)) is refuses


def test_every_policy_that_refuses_is_named() -> None:
    held = [
        Held(name, documents.read(policy, zones))
        for name, policy in (("a", LEAST), ("b", DRIFT), ("c", CHECKS))
    ]
    action = Action(verb="promote", role="kiosk", segment="general", now=NOW)
    found = refusals(held, action, zones)
    assert [(one.policy, one.is_lasting) for one in found] == [("a", True), ("c", True)]
    assert set(LASTING) < set(get_args(Kind))


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        pytest.param({"kind": "curfew"}, "curfew", id="another kind"),
        pytest.param({}, "kind", id="no kind"),
        pytest.param({**LEAST, "version": "latest"}, "version", id="a version that is none"),
        pytest.param({**LEAST, "verion": "1"}, "verion", id="a misspelt field"),
        pytest.param({**SHARE, "max_ratio": 25}, "max_ratio", id="a percentage"),
        pytest.param({**SHARE, "max_ratio": "0.25"}, "max_ratio", id="a share as text"),
        pytest.param({**SHARE, "max_ratio": 1}, "max_ratio", id="a share that refuses nothing"),
        pytest.param({**DRIFT, "max_seconds": 0}, "max_seconds", id="an age of nothing"),
        pytest.param({**APPROVALS, "people": 0}, "people", id="nobody's approval"),
        pytest.param({**SEGMENTS, "segments": []}, "segments", id="no segment at all"),
        pytest.param({**CHECKS, "scripts": ["validate/health"]}, "scripts", id="a script with its folder"),
        pytest.param({"kind": "freeze"}, "window", id="a freeze without end"),
        pytest.param({**HOLIDAYS, "window": window("1:00", "2:00")}, "start", id="a window nobody can read"),
        pytest.param({**HOLIDAYS, "window": window("01:00", "02:00")}, "either", id="a window and a span"),
        pytest.param(
            {"kind": "freeze", "starts_at": "2026-12-20T00:00:00Z"}, "ends_at", id="only a beginning"
        ),
        pytest.param(
            {**HOLIDAYS, "ends_at": "2026-12-20T00:00:00+01:00"}, "before it begins", id="an empty span"
        ),
        pytest.param({**HOLIDAYS, "ends_at": "2027-01-02T00:00:00"}, "ends_at", id="a time without its zone"),
        pytest.param(
            {"kind": "freeze", "window": window("01:00", "02:00", "device")}, "zone", id="no device's zone"
        ),
        pytest.param(
            {"kind": "freeze", "window": window("01:00", "02:00", "Mars/Olympus")}, "zone", id="no zone"
        ),
    ],
)
def test_a_policy_that_could_not_be_kept_is_refused(policy: dict[str, Any], named: str) -> None:
    with pytest.raises(Invalid) as refused:
        documents.read(policy, zones)
    assert named in refused.value.detail
    assert refused.value.rule == "policy"
