"""The compliance report: what it counts, what it names, and the forms it comes in."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from hub import events
from hub.audit.checkpoints import checkpoint_if_due
from hub.governance.rendering import as_csv
from hub.inline import style_sources
from tests.hub.world import World

FREEZE = {
    "kind": "freeze",
    "window": {"days": [0, 1, 2, 3, 4, 5, 6], "start": "00:00", "end": "00:00", "zone": "UTC"},
}


@pytest.fixture
def fleet(world: World) -> World:
    """Four devices of a site: one as it should be, an old agent that drifted, one in safe mode, one never heard of."""
    for name in ("shop-1", "shop-2", "shop-3", "shop-4"):
        world.device(name)
    world.heartbeat("shop-1", agent_version="1.5")
    world.heartbeat("shop-2", agent_version="1.3")
    world.heartbeat("shop-3", agent_version="1.5")
    with world.store.write() as tx:
        tx.execute("UPDATE devices SET site = 'harbour'")
        tx.execute(
            "INSERT INTO drifting (device_key, since) SELECT key, :now FROM devices WHERE device_id = 'shop-2'",
            {"now": world.now},
        )
        tx.execute("UPDATE devices SET quarantine_rule = 'safe_mode' WHERE device_id = 'shop-3'")
    answer = world.client.post("/policies", json={"kind": "least_agent_version", "version": "1.4"})
    assert answer.status_code == 201
    return world


def report(world: World, **query: Any) -> Any:
    answer = world.client.get("/compliance/report", params=query)
    assert answer.status_code == 200, answer.text
    return answer


def test_findings_are_counted_by_role_segment_and_site_and_devices_named(fleet: World) -> None:
    found = report(fleet).json()
    (group,) = found["groups"]
    assert (group["role"], group["segment"], group["site"], group["devices"]) == (
        "kiosk", "canary", "harbour", 4,
    )  # fmt: skip
    counted = {name: found["totals"][name] for name in ("agents_below", "drifted", "safe_mode", "silent")}
    assert counted == {"agents_below": 2, "drifted": 1, "safe_mode": 1, "silent": 1}
    assert {item["device_id"]: item["findings"] for item in found["devices"]["items"]} == {
        "shop-2": ["agents_below", "drifted"],
        "shop-3": ["safe_mode", "quarantined"],
        "shop-4": ["agents_below", "silent"],
    }
    assert found["least_agents"] == {"*": "1.4"}


def test_revoked_devices_are_left_out(fleet: World) -> None:
    fleet.client.post("/devices/shop-2/revoke")
    found = report(fleet).json()
    assert found["totals"]["devices"] == 3
    assert "shop-2" not in {item["device_id"] for item in found["devices"]["items"]}


def test_certificates_and_roots_that_end_soon_are_told_before_they_do(fleet: World) -> None:
    assert report(fleet).json()["totals"]["certificates_expiring"] == 0
    with fleet.store.read() as tx:
        row = tx.one("SELECT certificate_not_after AS end FROM devices WHERE device_id = 'shop-1'")
        root = tx.one("SELECT expires_at FROM roots")
    assert row is not None and root is not None
    fleet.now = row["end"] - 29 * 86_400_000
    assert report(fleet).json()["totals"]["certificates_expiring"] == 4
    fleet.now = root["expires_at"] - 29 * 86_400_000
    assert ("root", "1") in [(item["what"], item["name"]) for item in report(fleet).json()["expiring"]]


def test_exceptions_and_rollouts_of_the_period_are_listed(fleet: World) -> None:
    fleet.client.post("/policies", json=FREEZE)
    release = fleet.publish(1)
    body = {"targetSegment": "canary", "policy_exception": "=the tills are down"}
    assert fleet.client.post(f"/releases/{release}/promote", json=body).status_code == 200
    fleet.result("shop-1", release, "downloading")
    fleet.result("shop-1", release, "committed")
    fleet.events()
    found = report(fleet).json()
    assert {one["policy"]["kind"] for one in found["exceptions"]} == {"freeze", "least_agent_version"}
    (rollout,) = found["rollouts"]
    assert (rollout["id"], rollout["started_by"], rollout["devices"]) == (release, "admin", {"committed": 1})
    fleet.now += 31 * 86_400_000
    assert report(fleet).json()["exceptions"] == []
    assert [one["id"] for one in report(fleet).json()["rollouts"]] == [release], "it is still under way"
    (row,) = csv.DictReader(io.StringIO(report(fleet, format="csv", table="rollouts").text))
    assert (row["committed"], row["failed"]) == ("1", "0")


def test_a_device_that_a_person_held_back_before_it_entered_safe_mode_is_in_safe_mode_too(
    fleet: World,
) -> None:
    before = report(fleet).json()["totals"]["safe_mode"]
    fleet.client.post("/recovery/shop-1/quarantine", json={"reason": "under repair"})
    fleet.heartbeat("shop-1", safe_mode=True)
    assert report(fleet).json()["totals"]["safe_mode"] == before + 1
    fleet.heartbeat("shop-1", safe_mode=False)
    assert report(fleet).json()["totals"]["safe_mode"] == before


def test_an_event_that_was_changed_breaks_the_chain_and_is_named(fleet: World) -> None:
    kinds = fleet.events()
    assert report(fleet).json()["chain"]["events"] == len(kinds)
    with fleet.tampering() as tx:
        tx.execute("UPDATE events SET actor = 'nobody' WHERE n = 3")
    assert report(fleet).json()["chain"] == {"ok": False, "events": 2, "first_bad": 3}


def test_events_missing_from_the_end_and_a_history_computed_anew_break_the_chain(fleet: World) -> None:
    count = len(fleet.events())
    assert checkpoint_if_due(fleet.store, fleet.signer, fleet.now)
    fleet.client.post("/devices/shop-1/revoke")
    assert len(fleet.events()) > count
    assert report(fleet).json()["chain"]["ok"]
    with fleet.tampering() as tx:
        tx.execute("UPDATE events SET actor = 'nobody' WHERE n = 3")
        tx.execute("UPDATE events SET n = NULL, hash = NULL")
        events.seal(tx)
    assert report(fleet).json()["chain"] == {"ok": False, "events": count - 1, "first_bad": count}
    with fleet.tampering() as tx:
        tx.execute("DELETE FROM events WHERE n > :n", {"n": count - 2})
    assert report(fleet).json()["chain"] == {"ok": False, "events": count - 2, "first_bad": count - 1}


@pytest.mark.parametrize(
    "reason", ["=1+1", "+1", "-1", "@SUM(A1)", " =1+1", "\n=1+1", "\t=1+1", "＝1+1", "＠x"]
)
def test_no_spreadsheet_takes_a_reason_for_a_formula(reason: str) -> None:
    item = {"n": 1, "reason": reason, "policy": {"policy": "p", "kind": "freeze", "detail": ""}}
    (row,) = csv.DictReader(io.StringIO(as_csv({"exceptions": [item]}, "exceptions"), newline=""))
    assert row["reason"] == f"'{reason}"


@pytest.mark.parametrize("table", ["groups", "devices", "expiring", "exceptions", "rollouts"])
def test_each_table_comes_as_csv_with_its_heading(fleet: World, table: str) -> None:
    answer = report(fleet, format="csv", table=table)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == {"groups": 1, "devices": 3}.get(table, 0)
    assert "," in answer.text.splitlines()[0]


def test_the_page_needs_nothing_else_and_shows_texts_as_texts(fleet: World) -> None:
    with fleet.store.write() as tx:
        tx.execute("UPDATE devices SET site = '<script>alert(1)</script>'")
    answer = report(fleet, format="html")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert f"style-src {style_sources(answer.text)};" in policy and "'sha256-" in policy
    assert "<script" not in answer.text and "&lt;script&gt;" in answer.text
    assert "src=" not in answer.text and "http" not in answer.text.replace("http-equiv", "")
    assert "shop-2" in answer.text


def test_one_report_a_day_is_kept_so_that_trends_show(fleet: World) -> None:
    assert fleet.governance.keep_day_if_due()
    assert not fleet.governance.keep_day_if_due()
    with fleet.store.write() as tx:
        tx.execute("DELETE FROM drifting")
    fleet.now += 86_400_000
    assert fleet.governance.keep_day_if_due()
    items = fleet.client.get("/compliance/history").json()["items"]
    assert [item["totals"]["drifted"] for item in items] == [1, 0]


@pytest.mark.parametrize("days", [0, 801, -1])
def test_a_period_that_makes_no_sense_is_refused_and_not_cut(fleet: World, days: int) -> None:
    for path in ("/compliance/report", "/compliance/history"):
        answer = fleet.client.get(path, params={"days": days})
        assert (answer.status_code, answer.json()["rule"]) == (422, "days")
