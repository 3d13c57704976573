"""Recovery over HTTP: quarantine by rules and people, safe mode, redeploy, and what the device is told of it."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from hub.recovery.rules import REQUIRED
from tests.hub.world import SPOOL, World
from topics.documents import Desired
from topics.messages import CommandResult, Drift, DriftItem, Probes, Recovery

HOUR = 3_600_000
_numbers = itertools.count(10_000)


def report(hub: World, kind: type[Any], device_id: str = "shop-1", **fields: Any) -> None:
    base = {"boot": (1, "0" * 8), "at": hub.now // 1000, "spool": SPOOL, "n": next(_numbers)}
    hub.now += 1_000
    hub.uplink(device_id, kind(**base, **fields))
    hub.watch.look()


def enters(hub: World, device_id: str = "shop-1", entry: str = "own-1-1", **fields: Any) -> None:
    report(hub, Recovery, device_id, state="entered", entry=entry, **{"reason": "three failures", **fields})


def leaves(hub: World, entry: str = "own-1-1") -> None:
    report(hub, Recovery, state="left", entry=entry)


def diagnoses(hub: World, **verdicts: str) -> None:
    checks = [
        {"name": name, "verdict": verdicts.get(name.replace(" ", "_"), "pass"), "detail": "", "remedy": ""}
        for name in REQUIRED
    ]
    said = {"checks": msgspec.json.encode(checks).decode(), "log": "the last line", "disk": "3 GB free"}
    report(hub, Recovery, state="diagnostics", entry="", diagnostics=said)


def seen(hub: World, device_id: str = "shop-1") -> dict[str, Any]:
    answer: dict[str, Any] = hub.client.get(f"/recovery/{device_id}").json()
    return answer


def rule(hub: World, device_id: str = "shop-1") -> str | None:
    held = seen(hub, device_id)["quarantine"]
    return held and str(held["rule"])


def post(hub: World, path: str, **body: Any) -> Any:
    return hub.client.post(path, json=body)


def told(hub: World, device_id: str = "shop-1") -> Desired:
    return hub.desired(device_id)


def kinds(hub: World) -> list[str]:
    return [command.kind for command in told(hub).commands]


# By rules


def test_a_device_that_enters_safe_mode_is_held_back_and_asked_for_its_diagnostics(hub: World) -> None:
    enters(hub)
    assert rule(hub) == "safe_mode"
    assert told(hub).quarantine == "safe_mode: three failures"
    assert kinds(hub) == ["collect-diagnostics"]
    assert "device.quarantined" in hub.events()
    device = hub.client.get("/devices/shop-1").json()
    assert device["quarantine"] == "safe_mode: three failures"


def test_safe_mode_that_the_hub_ordered_holds_nobody_back(hub: World) -> None:
    enters(hub, entry="ordered-17")
    assert rule(hub) is None


def test_an_entry_that_comes_when_the_stay_is_over_holds_nobody_back(hub: World) -> None:
    base = {"boot": (1, "0" * 8), "at": 0, "spool": SPOOL, "entry": "own-1-1"}
    hub.uplink("shop-1", Recovery(**base, n=1, state="entered"))  # type: ignore[arg-type]
    hub.now += 1
    hub.uplink("shop-1", Recovery(**base, n=2, state="left"))  # type: ignore[arg-type]
    hub.watch.look()
    assert rule(hub) is None


def test_a_device_that_left_safe_mode_is_let_go_when_its_diagnostics_pass(hub: World) -> None:
    enters(hub)
    diagnoses(hub)
    assert rule(hub) == "safe_mode", "well enough for a redeploy, and still in safe mode"
    leaves(hub)
    assert (rule(hub), kinds(hub)) == ("safe_mode", ["collect-diagnostics"])
    diagnoses(hub, memory="fail")
    assert rule(hub) == "safe_mode"
    diagnoses(hub)
    assert (rule(hub), told(hub).quarantine) == (None, "")
    assert "device.let_go" in hub.events()


def test_three_failed_activations_hold_a_device_back_until_one_succeeds(hub: World) -> None:
    release = hub.publish(1)
    for attempt in (1, 2, 3):
        assert rule(hub) is None
        hub.result("shop-1", release, "downloading", attempt=attempt)
        hub.now += 1
        hub.result("shop-1", release, "rolled_back", attempt=attempt)
        hub.now += 1
        hub.watch.look()
    assert rule(hub) == "failures"
    hub.result("shop-1", release, "committed", attempt=4)
    hub.watch.look()
    assert rule(hub) is None


def test_a_drift_that_stays_for_a_day_holds_a_device_back_until_it_is_gone(hub: World) -> None:
    report(hub, Drift, items=[DriftItem(path="files/a", what="hash")])
    hub.now += 24 * HOUR - 5_000
    report(hub, Drift, items=[DriftItem(path="files/b", what="hash")])
    assert rule(hub) is None
    hub.now += 10_000
    hub.watch.look()
    assert rule(hub) == "drift"
    report(hub, Drift)
    assert rule(hub) is None


def test_a_device_held_for_its_drift_that_enters_safe_mode_is_let_go_by_its_diagnostics_only(
    hub: World,
) -> None:
    report(hub, Drift, items=[DriftItem(path="files/a", what="hash")])
    hub.now += 25 * HOUR
    hub.watch.look()
    assert rule(hub) == "drift"
    enters(hub)
    assert (rule(hub), told(hub).quarantine) == ("safe_mode", "safe_mode: three failures")
    leaves(hub)
    report(hub, Drift)
    assert rule(hub) == "safe_mode"
    diagnoses(hub)
    assert rule(hub) is None


def test_what_a_person_holds_back_no_rule_takes_over(hub: World) -> None:
    post(hub, "/recovery/shop-1/quarantine", reason="under repair")
    enters(hub)
    assert rule(hub) == "operator"


def beat(hub: World, restarts: int) -> None:
    hub.heartbeat("shop-1", probes=Probes(restarts=restarts))
    hub.watch.look()


def test_restarts_of_a_service_within_an_hour_hold_a_device_back_until_an_hour_passed(hub: World) -> None:
    for restarts in (100, 101, 102, 103):
        beat(hub, restarts)
    assert rule(hub) is None, "what came before the first is not known"
    beat(hub, 104)
    assert rule(hub) == "restarts"
    report(hub, CommandResult, command=told(hub).commands[0].id, ok=True)
    diagnoses(hub)
    assert (rule(hub), kinds(hub)) == ("restarts", [])
    hub.now += HOUR
    hub.watch.look()
    assert kinds(hub) == ["collect-diagnostics"]
    hub.watch.look()
    assert len(seen(hub)["commands"]) == 2, "asked once"
    diagnoses(hub)
    assert rule(hub) is None


def test_restarts_spread_over_hours_hold_nobody_back(hub: World) -> None:
    for restarts in range(1, 12):
        beat(hub, restarts)
        hub.now += HOUR // 2
    assert rule(hub) is None


def test_what_waits_in_the_inbox_is_judged_once_however_often_it_is_reported(hub: World) -> None:
    message = Recovery(boot=(1, "0" * 8), at=0, spool=SPOOL, n=1, state="entered", entry="own-1-1")
    for _ in range(3):
        hub.uplink("shop-1", message)
        hub.watch.look()
    assert hub.events().count("device.quarantined") == 1
    post(hub, "/recovery/shop-1/release", reason="seen to")
    hub.uplink("shop-1", message)
    hub.watch.look()
    assert rule(hub) is None


def test_many_of_a_role_within_an_hour_are_told_once(hub: World) -> None:
    for number in range(2, 6):
        hub.device(f"shop-{number}")
    for number in range(1, 6):
        enters(hub, f"shop-{number}")
    assert hub.events().count("recovery.storm") == 1
    with hub.store.read() as tx:
        from hub.recovery.alerts import quarantine_alerts

        alerts = {alert["kind"]: alert["text"] for alert in quarantine_alerts(tx, hub.now)}
    assert alerts == {
        "device_quarantined": "5 devices of kiosk in quarantine: 5 by safe_mode",
        "quarantine_storm": "3 devices of kiosk were quarantined within an hour",
    }


# By people


def test_a_person_holds_a_device_back_and_lets_it_go(hub: World) -> None:
    answer = post(hub, "/recovery/shop-1/quarantine", reason="smells of smoke").json()
    assert answer["quarantine"]["by"] == "admin"
    assert told(hub).quarantine == "operator: smells of smoke"
    assert post(hub, "/recovery/shop-1/release", reason="new fan").json()["quarantine"] is None
    assert told(hub).quarantine == ""
    again = post(hub, "/recovery/shop-1/release", reason="new fan")
    assert (again.status_code, again.json()["rule"]) == (409, "not_quarantined")


@pytest.mark.parametrize("verb", ["quarantine", "release"])
def test_holding_and_letting_go_need_a_reason(hub: World, verb: str) -> None:
    answer = post(hub, f"/recovery/shop-1/{verb}", reason=" ")
    assert (answer.status_code, answer.json()["rule"]) == (422, "reason")


def test_who_was_let_go_by_a_person_is_held_back_only_for_what_comes_anew(hub: World) -> None:
    report(hub, Drift, items=[DriftItem(path="files/a", what="hash")])
    hub.now += 25 * HOUR
    hub.watch.look()
    post(hub, "/recovery/shop-1/release", reason="it may be so")
    hub.watch.look()
    assert rule(hub) is None
    hub.now += 24 * HOUR
    hub.watch.look()
    assert rule(hub) == "drift"


def test_eligibility_says_that_a_device_is_held_back_and_why(hub: World) -> None:
    release = hub.publish(1)
    hub.promote(release, "canary")
    post(hub, "/recovery/shop-1/quarantine", reason="smells of smoke")
    answer = hub.client.get(f"/releases/{release}/eligibility/shop-1").json()
    assert (answer["reason"], answer["detail"]) == ("quarantined", "operator: smells of smoke")


def test_a_preview_counts_who_is_held_back(hub: World) -> None:
    release = hub.publish(1)
    post(hub, "/recovery/shop-1/quarantine", reason="smells of smoke")
    body = {"targetSegment": "canary", "rolloutPercentage": 100}
    answer = hub.client.post(f"/releases/{release}/promote?dry_run=true", json=body).json()
    assert answer["by_reason"] == {"quarantined": 1}


# Safe mode


def test_safe_mode_is_ordered_and_ended(hub: World) -> None:
    post(hub, "/recovery/shop-1/enter", reason="look at it")
    assert told(hub).safe_mode == "on"
    post(hub, "/recovery/shop-1/leave")
    assert told(hub).safe_mode == "auto"
    again = post(hub, "/recovery/shop-1/leave")
    assert (again.status_code, again.json()["rule"]) == (409, "not_in_safe_mode")


def test_the_devices_own_stay_is_ended_by_its_name_and_the_quarantine_stays(hub: World) -> None:
    enters(hub, entry="own-4-2")
    answer = post(hub, "/recovery/shop-1/leave").json()
    assert told(hub).safe_mode == "cleared:own-4-2"
    assert answer["quarantine"]["rule"] == "safe_mode"


def test_stays_and_diagnostics_are_read_back(hub: World) -> None:
    enters(hub)
    diagnoses(hub, clock="fail")
    found = seen(hub)
    assert [(stay["entry"], stay["left_at"]) for stay in found["stays"]] == [("own-1-1", None)]
    assert found["in_safe_mode"] is True
    assert (found["diagnostics"]["log"], found["diagnostics"]["disk"]) == ("the last line", "3 GB free")
    assert [check["name"] for check in found["redeploy"]["not_passed"]] == ["clock"]
    leaves(hub)
    assert seen(hub)["stays"][0]["left_at"] is not None


# The fleet


def test_the_fleets_quarantine_is_listed_with_filters_and_pages(hub: World) -> None:
    hub.device("shop-2", "early")
    enters(hub, "shop-2")
    post(hub, "/recovery/shop-1/quarantine", reason="smells of smoke")
    whole = hub.client.get("/recovery").json()
    assert whole["counts"] == {"operator": 1, "safe_mode": 1}
    assert [item["device_id"] for item in whole["items"]] == ["shop-1", "shop-2"]
    first = hub.client.get("/recovery?limit=1").json()
    assert first["next_cursor"] == "shop-1"
    rest = hub.client.get("/recovery?limit=1&cursor=shop-1").json()
    assert ([item["device_id"] for item in rest["items"]], rest["next_cursor"]) == (["shop-2"], None)
    for query in ("segment=early", "rule=safe_mode"):
        items = hub.client.get(f"/recovery?{query}").json()["items"]
        assert [item["device_id"] for item in items] == ["shop-2"], query
    assert hub.client.get("/recovery?role=gateway").json()["items"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "segment=nowhere", "rule=none"])
def test_a_list_that_cannot_be_meant_is_refused(hub: World, query: str) -> None:
    answer = hub.client.get(f"/recovery?{query}")
    assert (answer.status_code, answer.json()["rule"]) == (422, query.partition("=")[0])
