"""Fleet policies over the API: each stands in the way of the action that it is about, and says so beforehand."""

from __future__ import annotations

from typing import Any

import pytest

from hub.times import rfc3339
from tests.hub.world import World, make_bundle
from topics.documents import Requires
from topics.messages import Drift, DriftItem

ALWAYS = {"days": [0, 1, 2, 3, 4, 5, 6], "start": "00:00", "end": "00:00", "zone": "UTC"}
FREEZE = {"kind": "freeze", "window": ALWAYS}


def add(world: World, policy: dict[str, Any]) -> str:
    world.now += 1
    answer = world.client.post("/policies", json=policy)
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["id"]
    return made


def as_person(world: World, name: str, role: str = "release-manager") -> dict[str, str]:
    answer = world.client.post("/api-keys", json={"name": name, "role": role})
    return {"Authorization": f"Bearer {answer.json()['key']}"}


def promote(world: World, release: str, segment: str = "canary", **more: Any) -> Any:
    headers = more.pop("headers", {})
    query = "?dry_run=true" if more.pop("dry_run", False) else ""
    body = {"targetSegment": segment, **more}
    return world.client.post(f"/releases/{release}/promote{query}", json=body, headers=headers)


def to_early(world: World, release: str) -> None:
    """Take a release through its canary."""
    device = world.device("canary-1")
    assert promote(world, release).status_code == 200
    world.result(device, release, "downloading")
    world.result(device, release, "committed")


def test_a_policy_is_listed_until_it_is_removed_and_both_are_events(world: World) -> None:
    policy_id = add(world, {**FREEZE, "role": "kiosk", "note": "stock-taking"})
    (listed,) = world.client.get("/policies").json()["items"]
    assert (listed["id"], listed["kind"], listed["role"], listed["note"]) == (
        policy_id, "freeze", "kiosk", "stock-taking",
    )  # fmt: skip
    assert world.client.delete(f"/policies/{policy_id}?reason=done").status_code == 204
    assert world.client.get("/policies").json()["items"] == []
    assert world.client.delete(f"/policies/{policy_id}").status_code == 404
    assert [kind for kind in world.events() if kind.startswith("policy.")] == [
        "policy.added",
        "policy.removed",
    ]


@pytest.mark.parametrize(
    "reason", [pytest.param("x" * 1025, id="a book"), pytest.param("a\x00b", id="with NUL")]
)
def test_a_reason_that_is_none_removes_no_policy(world: World, reason: str) -> None:
    policy_id = add(world, FREEZE)
    answer = world.client.delete(f"/policies/{policy_id}", params={"reason": reason})
    assert (answer.status_code, answer.json()["rule"]) == (422, "reason")
    assert len(world.client.get("/policies").json()["items"]) == 1


def test_a_release_that_is_not_there_has_no_approvals(world: World) -> None:
    assert world.client.get("/releases/kiosk-1-aaaaaaaaaaaa/approvals").status_code == 404


@pytest.mark.parametrize("body", [{"kind": "curfew"}, {}, {"kind": "freeze"}, {"kind": 7}])
def test_a_policy_that_is_none_is_422(world: World, body: Any) -> None:
    answer = world.client.post("/policies", json=body)
    assert (answer.status_code, answer.json()["rule"]) == (422, "policy")


def test_a_freeze_stops_promotion_and_resumption_and_never_a_pause_or_a_way_back(world: World) -> None:
    release = world.publish(1)
    assert promote(world, release).status_code == 200
    policy_id = add(world, FREEZE)
    refused = promote(world, release, rolloutPercentage=100)
    assert (refused.status_code, refused.json()["rule"]) == (409, "policy.freeze")
    assert policy_id in refused.json()["detail"]
    assert world.client.post(f"/releases/{release}/pause").status_code == 200
    refused = world.client.post(f"/releases/{release}/resume")
    assert (refused.status_code, refused.json()["rule"]) == (409, "policy.freeze")
    assert world.client.post(f"/releases/{release}/rollback").status_code == 200


def test_a_dry_run_names_every_policy_that_would_refuse(world: World) -> None:
    release = world.publish(1)
    first, second = add(world, FREEZE), add(world, {"kind": "least_agent_version", "version": "2.0"})
    found = promote(world, release, dry_run=True).json()
    assert found["refused_by"] == "policy.freeze"
    assert [(one["policy"], one["kind"]) for one in found["policies"]] == [
        (first, "freeze"), (second, "least_agent_version"),
    ]  # fmt: skip
    assert world.state(release) == "published"


def test_an_admin_makes_an_exception_and_it_stands_in_the_audit(world: World) -> None:
    release = world.publish(1)
    policy_id = add(world, FREEZE)
    manager = as_person(world, "ann")
    refused = promote(world, release, policy_exception="the tills are down", headers=manager)
    assert (refused.status_code, refused.json()["rule"]) == (403, "role")
    assert world.state(release) == "published"
    assert promote(world, release, policy_exception="  ").status_code == 409
    assert promote(world, release, policy_exception="the tills are down").status_code == 200
    world.events()
    (event,) = world.client.get("/audits?kind=policy.excepted").json()["items"]
    assert (event["release_id"], event["reason"], event["actor"]) == (release, "the tills are down", "admin")
    assert event["body"]["policy"] == policy_id


def test_an_old_agent_is_kept_out_by_what_the_release_asks_for(world: World) -> None:
    add(world, {"kind": "least_agent_version", "version": "1.4"})
    lax, strict = world.publish(1), world.publish(2, requires=Requires(min_agent="1.4.1"))
    assert promote(world, lax).json()["rule"] == "policy.least_agent_version"
    assert promote(world, strict).status_code == 200


def test_a_bundle_without_the_required_checks_goes_nowhere(world: World) -> None:
    add(world, {"kind": "required_validations", "scripts": ["health"]})
    bare, checked = world.publish(1), make_bundle(**{"validate/health": b"#!/bin/sh\n"})
    assert promote(world, bare).json()["rule"] == "policy.required_validations"
    assert promote(world, world.publish(2, packed=checked)).status_code == 200


def test_a_second_person_must_approve_before_a_segment_that_asks_for_it(world: World) -> None:
    add(world, {"kind": "approvals", "segments": ["early"]})
    ann, bob = as_person(world, "ann"), as_person(world, "bob")
    release = world.publish(1)
    to_early(world, release)
    path = f"/releases/{release}/approvals"
    assert promote(world, release, "early", headers=ann).json()["rule"] == "policy.approvals"
    assert world.client.post(path, json={"targetSegment": "early"}, headers=ann).status_code == 201
    assert promote(world, release, "early", headers=ann).json()["rule"] == "policy.approvals"
    assert world.client.post(path, json={"targetSegment": "general"}, headers=bob).status_code == 201
    assert promote(world, release, "early", headers=ann).json()["rule"] == "policy.approvals"
    world.now += 1
    found = world.client.post(path, json={"targetSegment": "early", "reason": "tried"}, headers=bob).json()
    assert [(item["segment"], item["by"]) for item in found["items"]] == [
        ("early", "ann"), ("general", "bob"), ("early", "bob"),
    ]  # fmt: skip
    assert world.client.delete(f"{path}/early", headers=bob).status_code == 204
    assert promote(world, release, "early", headers=ann).json()["rule"] == "policy.approvals"
    world.client.post(path, json={"targetSegment": "early"}, headers=bob)
    assert promote(world, release, "early", headers=ann).status_code == 200
    kinds = [kind for kind in world.events() if "approv" in kind]
    found = world.client.get("/audits", params={"role": "kiosk", "kind": "release.approval_withdrawn"}).json()
    assert [event["actor"] for event in found["items"]] == ["bob"]
    assert kinds == ["release.approved"] * 3 + ["release.approval_withdrawn", "release.approved"]


def test_who_put_a_rollout_on_its_way_does_not_approve_it_for_the_rule_that_goes_on_with_it(
    world: World,
) -> None:
    add(world, {"kind": "approvals", "segments": ["early"]})
    eager = {"segments": {"canary": {"least_wait_seconds": 0}}, "advance": "automatic"}
    release = world.publish(1, policy=eager)
    to_early(world, release)
    path = f"/releases/{release}/approvals"
    assert world.judge() == []
    world.client.post(path, json={"targetSegment": "early"})
    assert world.judge() == []
    world.client.post(path, json={"targetSegment": "early"}, headers=as_person(world, "bob"))
    assert world.judge() == [release]


def test_who_scheduled_a_promotion_does_not_approve_it_for_the_rule_that_carries_it_out(world: World) -> None:
    add(world, {"kind": "approvals", "segments": ["canary"]})
    ann, bob = as_person(world, "ann"), as_person(world, "bob")
    release = world.publish(1)
    path = f"/releases/{release}/approvals"
    body = {"targetSegment": "canary", "not_before": rfc3339(world.now + 60_000)}
    assert world.client.post(f"/releases/{release}/promote", json=body, headers=ann).status_code == 200
    assert world.client.post(path, json={"targetSegment": "canary"}, headers=ann).status_code == 201
    world.now += 120_000
    assert world.judge() == []
    world.client.post(path, json={"targetSegment": "canary"}, headers=bob)
    assert world.judge() == [release]


def test_who_widened_a_share_does_not_approve_the_rest(world: World) -> None:
    add(world, {"kind": "approvals", "segments": ["early"]})
    ann, bob = as_person(world, "ann"), as_person(world, "bob")
    release = world.publish(1)
    to_early(world, release)
    assert promote(world, release, rolloutPercentage=100, headers=bob).status_code == 200
    path = f"/releases/{release}/approvals"
    world.client.post(path, json={"targetSegment": "early"}, headers=bob)
    assert promote(world, release, "early", headers=ann).json()["rule"] == "policy.approvals"


def test_what_waits_for_its_time_waits_for_a_freeze_to_end_as_well(world: World) -> None:
    release = world.publish(1)
    policy_id = add(world, FREEZE)
    body = {"targetSegment": "canary", "not_before": rfc3339(world.now + 60_000)}
    assert world.client.post(f"/releases/{release}/promote", json=body).status_code == 200
    world.now += 120_000
    assert world.judge() == []
    assert world.state(release) == "published"
    world.client.delete(f"/policies/{policy_id}")
    assert world.judge() == [release]
    assert world.state(release) == "rolling"


def test_what_no_waiting_mends_is_not_scheduled(world: World) -> None:
    release = world.publish(1)
    add(world, {"kind": "allowed_segments", "segments": ["early"]})
    body = {"targetSegment": "canary", "not_before": rfc3339(world.now + 60_000)}
    answer = world.client.post(f"/releases/{release}/promote", json=body)
    assert answer.json()["rule"] == "policy.allowed_segments"


def test_a_complete_release_is_withdrawn_only_while_the_window_is_open(world: World) -> None:
    first = world.publish(1)
    second = world.publish(2)
    for release in (first, second):
        with world.store.write() as tx:
            tx.execute(
                "UPDATE releases SET state = 'complete', previous_id = :p WHERE id = :id",
                {"id": release, "p": None if release == first else first},
            )
            tx.execute("UPDATE segments SET stable_id = :id WHERE role = 'kiosk'", {"id": release})
    never = {"kind": "rollback_window", "window": {**ALWAYS, "start": "00:00", "end": "00:01"}}
    add(world, never)
    world.now += 86_400_000 + 43_200_000 - world.now % 86_400_000  # noon of the next day
    refused = world.client.post(f"/releases/{second}/rollback")
    assert refused.json()["rule"] == "policy.rollback_window"
    excepted = {"reason": "bad", "policy_exception": "the tills are down"}
    done = world.client.post(f"/releases/{second}/rollback", json=excepted)
    assert done.status_code == 200, done.text


def test_a_lock_is_no_way_around_what_a_segment_asks_for(world: World) -> None:
    device, release = world.device("shop-1"), world.publish(1)
    add(world, {"kind": "approvals", "segments": ["canary"]})
    ann, bob = as_person(world, "ann", "operator"), as_person(world, "bob")
    lock, redeploy = {"version_lock": release}, {"releaseId": release}
    refused = world.client.patch(f"/devices/{device}", json=lock, headers=ann)
    assert (refused.status_code, refused.json()["rule"]) == (409, "policy.approvals")
    path = f"/recovery/{device}/redeploy"
    assert world.client.post(path, json=redeploy, headers=ann).json()["rule"] == "policy.approvals"
    assert world.client.get(f"/devices/{device}").json()["version_lock"] is None
    world.client.post(f"/releases/{release}/approvals", json={"targetSegment": "canary"}, headers=bob)
    assert world.client.post(path, json=redeploy, headers=ann).status_code == 201
    assert (
        world.client.patch(f"/devices/{device}", json={"version_lock": None}, headers=ann).status_code == 200
    )
    assert world.client.patch(f"/devices/{device}", json=lock, headers=ann).status_code == 200


def test_an_admin_excepts_one_device_and_it_stands_in_the_audit(world: World) -> None:
    device, release = world.device("shop-1"), world.publish(1)
    policy_id = add(world, FREEZE)
    body = {"releaseId": release, "policy_exception": "the tills are down"}
    path = f"/recovery/{device}/redeploy"
    refused = world.client.post(path, json=body, headers=as_person(world, "ann"))
    assert (refused.status_code, refused.json()["rule"]) == (403, "role")
    assert world.client.post(path, json=body).status_code == 201
    world.events()
    (event,) = world.client.get("/audits?kind=policy.excepted").json()["items"]
    assert (event["device_id"], event["release_id"], event["body"]["policy"]) == (device, release, policy_id)
    assert event["reason"] == "the tills are down"


def test_what_was_offered_to_a_segment_finds_its_way_back_in_a_freeze(world: World) -> None:
    device, release = world.device("shop-1"), world.publish(1)
    assert promote(world, release, rolloutPercentage=0.01).status_code == 200
    add(world, FREEZE)
    assert world.client.post(f"/recovery/{device}/redeploy", json={"releaseId": release}).status_code == 201


def test_at_a_site_no_more_than_the_share_updates_at_once(world: World) -> None:
    release = world.publish(1)
    devices = [world.device(f"shop-{n}") for n in range(8)]
    with world.store.write() as tx:
        tx.execute("UPDATE devices SET site = 'harbour'")
    add(world, {"kind": "site_share", "max_ratio": 0.5})
    found = promote(world, release)
    assert found.json()["rule"] == "policy.site_share"
    assert "8 of 8 devices at harbour" in found.json()["detail"]
    assert promote(world, release, rolloutPercentage=1).status_code == 200
    for device in devices[:4]:
        world.result(device, release, "downloading")
        world.result(device, release, "committed")
    assert promote(world, release).status_code == 200, "four have ended, so four are left"


def test_a_segment_with_an_old_drift_takes_nothing_until_it_is_put_right(world: World) -> None:
    release = world.publish(1)
    device = world.device("shop-1")
    add(world, {"kind": "drift_age", "max_seconds": 3_600})
    drift(world, device, DriftItem(path="files/a", what="hash"))
    assert promote(world, release, dry_run=True).json()["refused_by"] is None
    world.now += 3_601_000
    assert promote(world, release).json()["rule"] == "policy.drift_age"
    drift(world, device)
    assert promote(world, release).status_code == 200


def drift(world: World, device: str, *items: DriftItem) -> None:
    """Take in a report of what differs on a device."""
    world.now += 1
    report = Drift(boot=(1, "0" * 8), at=1, spool="0a1b2c3d", n=world.now, items=list(items))
    world.uplink(device, report)
    world.watch.look()
