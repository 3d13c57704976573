"""Commands and redeploys over HTTP: queued in the desired state, ended by answer, time, operator or a newer one."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.recovery.commands import MOST
from hub.recovery.rules import REQUIRED
from hub.recovery.service import BY_NAME
from tests.hub.world import SPOOL, World, world
from topics.messages import CommandResult, Recovery

DAY = 86_400_000
_numbers = itertools.count(10_000)


def post(hub: World, path: str, **body: Any) -> Any:
    return hub.client.post(path, json=body)


def queue(hub: World, kind: str, **body: Any) -> str:
    answer = post(hub, "/devices/shop-1/commands", kind=kind, **body)
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["id"]
    return made


def state(hub: World, command: str) -> str:
    found: str = hub.client.get(f"/devices/shop-1/commands/{command}").json()["state"]
    return found


def told(hub: World) -> list[str]:
    return [command.id for command in hub.desired("shop-1").commands]


def report(hub: World, kind: type[Any], **fields: Any) -> None:
    base = {"boot": (1, "0" * 8), "at": hub.now // 1000, "spool": SPOOL, "n": next(_numbers)}
    hub.now += 1_000
    hub.uplink("shop-1", kind(**base, **fields))
    hub.watch.look()


def test_a_command_stands_in_the_desired_state_until_the_device_has_answered(hub: World) -> None:
    command = queue(hub, "report-now", reason="is it there")
    (sent,) = hub.desired("shop-1").commands
    assert (sent.id, sent.kind, sent.expires_at) == (command, "report-now", hub.now + DAY)
    report(hub, CommandResult, command=command, ok=True, detail="heartbeat sent")
    assert told(hub) == []
    found = hub.client.get(f"/devices/shop-1/commands/{command}").json()
    assert (found["state"], found["detail"]) == ("done", "heartbeat sent")
    assert hub.events()[-2:] == ["command.queued", "command.ended"]


def test_what_a_device_still_has_to_do_stands_before_all_that_has_ended(hub: World) -> None:
    waiting = queue(hub, "report-now")
    for _ in range(25):
        hub.now += 1
        queue(hub, "check-drift")
    shown = hub.client.get("/recovery/shop-1").json()["commands"]
    assert [command["kind"] for command in shown[:3]] == ["check-drift", "report-now", "check-drift"]
    assert shown[1]["id"] == waiting


def test_a_command_that_the_device_could_not_do_has_failed(hub: World) -> None:
    command = queue(hub, "check-drift")
    report(hub, CommandResult, command=command, ok=False, detail="nothing is installed")
    assert state(hub, command) == "failed"


def test_an_answer_that_comes_again_changes_nothing(hub: World) -> None:
    command = queue(hub, "report-now")
    report(hub, CommandResult, command=command, ok=True)
    report(hub, CommandResult, command=command, ok=False)
    assert state(hub, command) == "done"
    assert hub.events().count("command.ended") == 1


def test_another_devices_answer_ends_nothing(hub: World) -> None:
    command = queue(hub, "report-now")
    hub.device("shop-2")
    hub.uplink("shop-2", CommandResult(boot=(1, "0" * 8), at=0, spool=SPOOL, n=1, command=command, ok=True))
    hub.watch.look()
    assert state(hub, command) == "pending"


def test_a_command_expires_and_is_taken_out(hub: World) -> None:
    command = queue(hub, "report-now", expires_in=60)
    hub.now += 59_999
    hub.watch.look()
    assert told(hub) == [command]
    hub.now += 1
    hub.watch.look()
    assert (told(hub), state(hub, command)) == ([], "expired")


def test_a_newer_command_of_its_kind_replaces_one_that_is_stuck(hub: World) -> None:
    old, other, new = queue(hub, "report-now"), queue(hub, "check-drift"), queue(hub, "report-now")
    assert set(told(hub)) == {other, new}
    assert state(hub, old) == "superseded"


def test_a_bounded_number_is_pending_whatever_is_stuck(hub: World) -> None:
    with hub.store.write() as tx:
        key = tx.one("SELECT key FROM devices")
        assert key is not None
        for number in range(MOST):
            tx.execute(
                "INSERT INTO commands (id, device_key, kind, args, created_at, created_by, reason, expires_at, state) "
                "VALUES (:id, :key, 'redeploy', '{}', :at, '', '', :end, 'pending')",
                {"id": f"c-{number:02}", "key": key["key"], "at": number, "end": hub.now + DAY},
            )
    new = queue(hub, "report-now")
    assert len(told(hub)) == MOST
    assert told(hub)[-1] == new
    assert state(hub, "c-00") == "superseded"


def test_an_operator_takes_a_command_back_once(hub: World) -> None:
    command = queue(hub, "report-now")
    answer = hub.client.delete(f"/devices/shop-1/commands/{command}")
    assert (answer.status_code, answer.json()["state"], told(hub)) == (200, "cancelled", [])
    again = hub.client.delete(f"/devices/shop-1/commands/{command}")
    assert (again.status_code, again.json()["rule"]) == (409, "command_state")
    unknown = hub.client.delete("/devices/shop-1/commands/c-none")
    assert unknown.status_code == 404


def test_what_ended_months_ago_is_forgotten(hub: World) -> None:
    old = queue(hub, "report-now")
    hub.client.delete(f"/devices/shop-1/commands/{old}")
    hub.now += 91 * DAY
    queue(hub, "report-now")
    assert hub.client.get(f"/devices/shop-1/commands/{old}").status_code == 404


@pytest.mark.parametrize("kind", BY_NAME)
def test_each_kind_without_rules_of_its_own_is_queued(hub: World, kind: str) -> None:
    queue(hub, kind)
    assert [command.kind for command in hub.desired("shop-1").commands] == [kind]


@pytest.mark.parametrize("kind", ["redeploy", "fail-next-update"])
def test_a_kind_with_rules_of_its_own_is_refused_here(hub: World, kind: str) -> None:
    answer = post(hub, "/devices/shop-1/commands", kind=kind)
    assert (answer.status_code, answer.json()["rule"]) == (422, "command_kind")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"kind": "dance"}, id="unknown kind"),
        pytest.param({"kind": "report-now", "expires_in": 59}, id="too short"),
        pytest.param({"kind": "report-now", "expires_in": 30 * 86_400 + 1}, id="too long"),
        pytest.param({"kind": "report-now", "args": {}}, id="unknown field"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(hub: World, body: dict[str, Any]) -> None:
    assert hub.client.post("/devices/shop-1/commands", json=body).status_code == 400


@pytest.mark.parametrize("verb", ["collect-diagnostics", "repair"])
def test_the_verbs_of_recovery_queue_their_command(hub: World, verb: str) -> None:
    answer = post(hub, f"/recovery/shop-1/{verb}", reason="look")
    assert (answer.status_code, told(hub)) == (201, [answer.json()["id"]])


@pytest.mark.parametrize("verb", ["enter", "leave", "quarantine", "release", "redeploy", "repair"])
def test_a_revoked_or_unknown_device_is_told_nothing(hub: World, verb: str) -> None:
    assert post(hub, f"/recovery/shop-9/{verb}", reason="x").status_code == 404
    hub.client.post("/devices/shop-1/revoke")
    answer = post(hub, f"/recovery/shop-1/{verb}", reason="x")
    assert (answer.status_code, answer.json()["rule"]) == (409, "revoked")


# Redeploy


def diagnoses(hub: World, verdict: str) -> None:
    checks = [{"name": name, "verdict": verdict} for name in REQUIRED]
    said = {"checks": msgspec.json.encode(checks).decode()}
    report(hub, Recovery, state="diagnostics", entry="", diagnostics=said)


def offered(hub: World, sequence: int = 1) -> str:
    release = hub.publish(sequence)
    assert hub.promote(release, "canary").status_code == 200
    return release


def test_a_redeploy_waits_for_diagnostics_that_pass_and_says_which_do_not(hub: World) -> None:
    report(hub, Recovery, state="entered", entry="own-1-1")
    refused = post(hub, "/recovery/shop-1/redeploy")
    assert (refused.status_code, refused.json()["rule"]) == (409, "diagnostics")
    assert (refused.json()["required"], refused.json()["not_passed"]) == (list(REQUIRED), [])
    diagnoses(hub, "fail")
    refused = post(hub, "/recovery/shop-1/redeploy")
    assert [check["name"] for check in refused.json()["not_passed"]] == list(REQUIRED)
    diagnoses(hub, "pass")
    answer = post(hub, "/recovery/shop-1/redeploy")
    assert (answer.status_code, answer.json()["forced"]) == (201, False)
    assert "redeploy" in [command.kind for command in hub.desired("shop-1").commands]


def test_a_redeploy_that_is_forced_needs_the_role_and_a_reason_and_is_audited(hub: World) -> None:
    report(hub, Recovery, state="entered", entry="own-1-1")
    diagnoses(hub, "fail")
    key = post(hub, "/api-keys", name="night shift", role="operator").json()["key"]
    forced = {"force": True, "reason": "the sensor lies"}
    low = hub.client.post(
        "/recovery/shop-1/redeploy", json=forced, headers={"Authorization": f"Bearer {key}"}
    )
    assert (low.status_code, low.json()["rule"]) == (403, "force")
    silent = post(hub, "/recovery/shop-1/redeploy", force=True)
    assert (silent.status_code, silent.json()["rule"]) == (422, "reason")
    answer = post(hub, "/recovery/shop-1/redeploy", **forced)
    assert (answer.status_code, answer.json()["forced"]) == (201, True)
    hub.events()
    (event,) = hub.client.get("/audits?kind=recovery.redeploy_ordered").json()["items"]
    assert (event["reason"], event["body"]["forced"]) == ("the sensor lies", True)
    assert event["body"]["not_passed"] == list(REQUIRED)


def test_a_device_without_trouble_is_redeployed_what_it_is_offered(hub: World) -> None:
    release = offered(hub)
    answer = post(hub, "/recovery/shop-1/redeploy", releaseId=release)
    assert (answer.status_code, answer.json()["locked"]) == (201, False)
    (command,) = hub.desired("shop-1").commands
    assert (command.kind, command.release) == ("redeploy", release)
    assert hub.desired("shop-1").version_lock is None


def test_a_release_that_is_not_offered_becomes_the_devices_lock(hub: World) -> None:
    first = hub.publish(1)
    offered(hub, 2)
    answer = post(hub, "/recovery/shop-1/redeploy", releaseId=first)
    assert answer.json()["locked"] is True
    assert hub.client.get("/devices/shop-1").json()["version_lock"] == first
    assert hub.desired("shop-1").version_lock is not None


def test_a_release_that_is_none_is_refused_and_changes_nothing(hub: World) -> None:
    answer = post(hub, "/recovery/shop-1/redeploy", releaseId="kiosk-9-aaaaaaaaaaaa")
    assert (answer.status_code, answer.json()["rule"], told(hub)) == (409, "version_lock", [])


def test_a_redeploy_ends_safe_mode_that_was_ordered(hub: World) -> None:
    post(hub, "/recovery/shop-1/enter")
    post(hub, "/recovery/shop-1/redeploy")
    assert hub.desired("shop-1").safe_mode == "auto"


# Chaos


def test_no_update_is_made_to_fail_on_a_hub_that_was_not_started_for_it(hub: World) -> None:
    answer = post(hub, "/test/fail-update", deviceId="shop-1")
    assert (answer.status_code, answer.json()["rule"], told(hub)) == (409, "chaos_off", [])


def test_an_admin_has_the_next_update_of_a_device_break_where_and_how_they_say(tmp_path: Path) -> None:
    with world(tmp_path, chaos=True) as hub:
        hub.trust_root()
        hub.device("shop-1")
        answer = post(hub, "/test/fail-update", deviceId="shop-1", phase="stage", kind="crash", expires_in=60)
        assert answer.status_code == 201
        (command,) = hub.desired("shop-1").commands
        assert (command.kind, command.args) == ("fail-next-update", {"phase": "stage", "kind": "crash"})
        assert command.expires_at == hub.now + 60_000
        assert "chaos.armed" in hub.events()
        key = post(hub, "/api-keys", name="ci", role="release-manager").json()["key"]
        headers = {"Authorization": f"Bearer {key}"}
        low = hub.client.post("/test/fail-update", json={"deviceId": "shop-1"}, headers=headers)
        assert low.status_code == 403
