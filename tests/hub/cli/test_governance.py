"""`flaghoist policy`, `release approve` and `compliance`: what the hub is asked, and what people see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hub.policies import documents
from hub.times import zones
from tests.hub.cli.conftest import FakeHub, Flaghoist

POLICY: dict[str, Any] = {
    "id": "0a1b2c3d4e5f",
    "kind": "approvals",
    "role": None,
    "note": "four eyes",
    "segments": ["general"],
    "people": 1,
    "created_at": "2026-11-25T10:00:00.000Z",
    "created_by": "admin",
}
TOTALS = {"devices": 3, "drifted": 1}
REPORT: dict[str, Any] = {
    "days": 30,
    "totals": TOTALS,
    "groups": [{"role": "kiosk", "segment": "canary", "site": "", **TOTALS}],
    "chain": {"ok": True, "events": 12},
    "exceptions": [],
    "expiring": [{"what": "root", "name": "1", "expires_at": "2026-12-01T00:00:00.000Z"}],
}


def test_a_policy_goes_from_its_file_to_the_hub(flaghoist: Flaghoist, hub: FakeHub, tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text('{"kind": "approvals", "people": 1}')
    hub.on("POST /policies", (201, POLICY))
    ran = flaghoist("policy", "add", str(file))
    assert (ran.code, ran.out) == (0, "0a1b2c3d4e5f approvals is in force for all roles\n")
    documents.read(hub.requests[0].json, zones)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("kind: freeze", "not a JSON object", id="not JSON"),
        pytest.param("[]", "not a JSON object", id="a list"),
        pytest.param('{"kind": "curfew"}', "least_agent_version", id="another kind, and the kinds there are"),
    ],
)
def test_a_file_that_is_no_policy_never_reaches_the_hub(
    flaghoist: Flaghoist, hub: FakeHub, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "policy.json"
    file.write_text(text)
    ran = flaghoist("policy", "add", str(file))
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert hub.requests == []


def test_policies_are_listed_with_what_they_are_set_to(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on("GET /policies", (200, {"items": [POLICY]}))
    ran = flaghoist("policy", "list")
    assert ran.out.splitlines()[1].split("\t") == [
        "0a1b2c3d4e5f", "approvals", "all", "segments=general people=1", "four eyes",
    ]  # fmt: skip
    assert flaghoist("policy", "list", "--json").json == [POLICY]


def test_a_policy_is_removed_for_a_reason(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on("DELETE /policies/0a1b2c3d4e5f?reason=over%20%26%20done", (204, None))
    ran = flaghoist("policy", "remove", "0a1b2c3d4e5f", "--reason", "over & done")
    assert (ran.code, ran.out) == (0, "0a1b2c3d4e5f removed\n")


def test_a_release_is_approved_and_who_did_is_shown(flaghoist: Flaghoist, hub: FakeHub) -> None:
    release = "kiosk-1-aaaaaaaaaaaa"
    items = [{"segment": "general", "by": "ann", "at": "2026-11-25T10:00:00.000Z", "reason": "tried"}]
    hub.on(f"POST /releases/{release}/approvals", (201, {"release": release, "items": items}))
    ran = flaghoist("release", "approve", release, "--segment", "general", "--reason", "tried")
    assert ran.out.splitlines()[1].split("\t") == ["general", "ann", "2026-11-25T10:00:00Z", "tried"]
    assert hub.requests[0].json == {"targetSegment": "general", "reason": "tried"}


def test_an_exception_is_asked_for_by_its_reason(flaghoist: Flaghoist, hub: FakeHub) -> None:
    release = "kiosk-1-aaaaaaaaaaaa"
    for verb in ("promote", "resume", "rollback"):
        hub.on(f"POST /releases/{release}/{verb}", (200, {"id": release}))
        more = ["--segment", "canary"] if verb == "promote" else []
        assert flaghoist("release", verb, release, *more, "--policy-exception", "tills down").code == 0
        assert hub.requests[-1].json["policy_exception"] == "tills down"


def test_the_report_is_a_table_with_its_remarks(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on("GET /compliance/report?days=30&format=json&table=groups", (200, REPORT))
    lines = flaghoist("compliance", "report").out.splitlines()
    assert lines[1].split("\t") == ["kiosk", "canary", "-", "3", "1"]
    assert lines[2].split("\t")[0] == "all"
    assert "audit chain: 12 events, whole" in lines
    assert "root 1 expires 2026-12-01T00:00:00Z" in lines


def test_a_table_and_the_page_are_printed_byte_for_byte(flaghoist: Flaghoist, hub: FakeHub) -> None:
    table, page = b'role,reason\r\nkiosk,"two\nlines"\r\n', b"<!doctype html>\n<p>\xe2\x80\x93</p>\n"
    hub.on("GET /compliance/report?days=30&format=csv&table=rollouts", (200, table))
    hub.on("GET /compliance/report?days=30&format=html&table=groups", (200, page))
    assert flaghoist("compliance", "report", "--format", "csv", "--table", "rollouts").out.encode() == table
    assert flaghoist("compliance", "report", "--format", "html").out.encode() == page


def test_the_history_is_a_line_a_day(flaghoist: Flaghoist, hub: FakeHub) -> None:
    day = {"at": "2026-11-25T00:10:00.000Z", "totals": TOTALS}
    hub.on("GET /compliance/history?days=30", (200, {"items": [day]}))
    assert flaghoist("compliance", "history").out.splitlines()[1].split("\t") == ["2026-11-25", "3", "1"]
