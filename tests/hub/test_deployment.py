"""Rollouts over the API, with reports taken in as ingest would: what operators and devices see."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from hub.caller import Caller, rule
from hub.rekey import sign_again_if_due
from tests.hub.world import EAGER, World, make_bundle
from tests.topics import kit
from topics.eligibility import REASONS
from topics.envelope import add_signature, open_envelope


def start(world: World, segment: str = "canary") -> str:
    """Publish release 1, stable already, and bring release 2 to `segment`; returns release 2."""
    stable(world)
    release = world.publish(2)
    for step in ("canary", "early", "general"):
        assert world.promote(release, step).status_code == 200
        if step == segment:
            return release
        commit(world, release, step)
    return release


def commit(world: World, release: str, segment: str) -> None:
    """Let the one device that `stable` made in the segment take the release well."""
    device = f"{segment}-1"
    world.heartbeat(device, running=(release, 2))
    world.result(device, release, "committed", segment=segment)


def stable(world: World) -> str:
    release = world.publish(1)
    for segment in ("canary", "early", "general"):
        assert world.promote(release, segment).status_code == 200
        device = world.device(f"{segment}-1", segment)
        world.heartbeat(device, running=(release, 1))
        world.result(device, release, "committed", segment=segment)
    assert world.judge() == [release]
    return release


def test_every_segment_of_a_new_role_has_a_manifest_that_offers_nothing(world: World) -> None:
    world.publish(1)
    for segment in ("canary", "early", "general"):
        manifest = world.manifest(segment)
        assert manifest.stable is None and manifest.candidate is None


def test_a_promotion_changes_the_manifest_of_its_segment_alone(world: World) -> None:
    release = world.publish(1)
    before = {name: world.manifest(name).manifest.issued_at for name in ("canary", "early", "general")}
    answer = world.promote(release, "canary", 12.5)
    assert answer.json()["state"] == "rolling"
    canary = world.manifest("canary")
    assert canary.candidate is not None and canary.candidate.id == release
    assert canary.manifest.basis_points == 1250 and canary.manifest.event == "update_available"
    assert canary.manifest.issued_at > before["canary"]
    for other in ("early", "general"):
        assert world.manifest(other).manifest.issued_at == before[other]


def test_a_release_reaches_all_segments_and_becomes_stable(world: World) -> None:
    release = stable(world)
    assert world.state(release) == "complete"
    for segment in ("canary", "early", "general"):
        manifest = world.manifest(segment)
        assert manifest.stable is not None and manifest.stable.id == release and manifest.candidate is None


def test_r4_a_segment_without_devices_proves_nothing(world: World) -> None:
    release = world.publish(1)
    world.promote(release, "canary")
    refusal = world.promote(release, "early")
    assert refusal.status_code == 409 and refusal.json()["rule"] == "gate_reports"
    assert world.judge() == []


def test_a_failing_canary_halts_the_rollout_and_pauses_the_manifest(world: World) -> None:
    release = start(world)
    device = world.device("canary-9")
    world.result(device, release, "downloading")
    assert world.judge() == []
    world.result(device, release, "rolled_back", reason="probation: 503")
    assert world.judge() == [release]
    assert world.state(release) == "halted"
    manifest = world.manifest("canary").manifest
    assert manifest.paused and manifest.event == "pause"
    assert "1 of 1 devices in canary failed" in world.client.get(f"/releases/{release}").json()["reason"]


def test_r6_two_failures_in_one_batch_halt_once(world: World) -> None:
    release = start(world)
    for name in ("canary-8", "canary-9"):
        world.result(world.device(name), release, "failed")
    assert world.judge() == [release]
    assert world.judge() == []
    assert world.events().count("release.halted") == 1


def test_r12_a_report_delivered_twice_counts_once(world: World) -> None:
    release = start(world)
    device = world.device("canary-9")
    for _ in range(3):
        world.result(device, release, "committed", n=7)
    canary = world.client.get(f"/releases/{release}/progress").json()["segments"][0]
    assert (canary["began"], canary["committed"]) == (1, 1)


def test_r1_a_device_that_falls_silent_becomes_lost_and_counts_as_a_failure(world: World) -> None:
    release = start(world)
    device = world.device("canary-9")
    world.result(device, release, "downloading")
    world.now += 120_000
    assert world.judge() == [], "exactly the time-out is not past it"
    world.now += 1
    assert world.judge() == [release]
    world.result(device, release, "committed")
    canary = world.client.get(f"/releases/{release}/progress").json()["segments"][0]
    assert (canary["lost"], canary["committed"]) == (0, 1), "a late success takes it back"


def test_nobody_is_lost_while_the_hub_itself_was_deaf(world: World) -> None:
    release = start(world)
    world.result(world.device("canary-9"), release, "downloading")
    world.now += 3_600_000
    world.observed_since = world.now - 10_000
    assert world.judge() == []


def test_r5_deleting_a_device_in_mid_rollout_changes_no_count(world: World) -> None:
    release = start(world)
    device = world.device("canary-9")
    world.result(device, release, "committed")
    before = world.client.get(f"/releases/{release}/progress").json()["segments"][0]
    assert world.client.delete(f"/devices/{device}").status_code == 204
    after = world.client.get(f"/releases/{release}/progress").json()["segments"][0]
    assert after["began"] == before["began"] == 1
    assert after["expected"] == before["expected"] - 1


def test_r5_moving_a_device_in_mid_rollout_leaves_it_counted_where_it_began(world: World) -> None:
    release = start(world)
    device = world.device("canary-9")
    world.result(device, release, "downloading", segment="canary")
    assert world.client.patch(f"/devices/{device}", json={"segment": "general"}).status_code == 200
    world.result(device, release, "failed", segment="general")
    segments = world.client.get(f"/releases/{release}/progress").json()["segments"]
    assert [(row["segment"], row["failed"]) for row in segments] == [
        ("canary", 1),
        ("early", 0),
        ("general", 0),
    ]


def test_an_ordered_rollback_is_no_failure(world: World) -> None:
    release = start(world)
    device = world.device("canary-9")
    world.result(device, release, "committed")
    world.result(device, release, "rolled_back", cause="ordered")
    assert world.judge() == []


def test_an_update_that_a_pause_cut_short_is_no_failure_and_did_not_begin(world: World) -> None:
    release = start(world)
    device = world.device("canary-9")
    world.result(device, release, "downloading")
    world.result(device, release, "failed", cause="ordered", reason="paused")
    assert world.judge() == []
    canary = world.client.get(f"/releases/{release}/progress").json()["segments"][0]
    assert (canary["began"], canary["failed"], canary["in_progress"]) == (0, 0, 0)


def test_pause_stops_new_starts_and_resume_goes_on(world: World) -> None:
    release = start(world)
    assert (
        world.client.post(f"/releases/{release}/pause", json={"reason": "lunch"}).json()["state"] == "paused"
    )
    assert world.manifest("canary").manifest.paused
    assert world.promote(release, "canary").json()["rule"] == "state"
    assert world.client.post(f"/releases/{release}/resume").json()["state"] == "rolling"
    assert not world.manifest("canary").manifest.paused


def test_r3_a_halted_release_goes_on_once_its_cause_is_mended(world: World) -> None:
    release = start(world)
    world.result(world.device("canary-9"), release, "failed")
    world.judge()
    world.now += 1
    assert (
        world.client.post(f"/releases/{release}/resume", json={"reason": "the disk was full"}).status_code
        == 200
    )
    assert world.judge() == [], "failures that were looked at do not halt again"
    world.result(world.device("canary-8"), release, "failed")
    assert world.judge() == [release], "a new one does"


def test_rollback_in_mid_rollout_orders_devices_back_to_the_stable_release(world: World) -> None:
    release = start(world, "early")
    assert (
        world.client.post(f"/releases/{release}/rollback", json={"reason": "tills"}).json()["state"]
        == "rolled_back"
    )
    for segment in ("canary", "early"):
        manifest = world.manifest(segment)
        assert manifest.candidate is None and manifest.stable is not None and manifest.stable.sequence == 1
        assert manifest.manifest.event == "rollback" and manifest.manifest.rollback_from == 2


def test_rollback_after_completion_puts_the_previous_release_back(world: World) -> None:
    release = start(world, "general")
    commit(world, release, "general")
    assert world.judge() == [release]
    assert world.client.post(f"/releases/{release}/rollback").json()["state"] == "rolled_back"
    for segment in ("canary", "early", "general"):
        manifest = world.manifest(segment)
        assert manifest.stable is not None and manifest.stable.sequence == 1
        assert manifest.manifest.rollback_from == 2


def test_two_rollbacks_in_a_row_order_back_whoever_was_away_for_both(world: World) -> None:
    second = start(world, "general")
    commit(world, second, "general")
    assert world.judge() == [second]
    third = world.publish(3)
    world.promote(third, "canary")
    world.client.post(f"/releases/{third}/rollback")
    world.client.post(f"/releases/{second}/rollback")
    assert world.manifest("canary").manifest.rollback_from == 3
    assert world.manifest("general").manifest.rollback_from == 2


def test_the_first_release_of_a_role_has_nothing_to_go_back_to(world: World) -> None:
    release = stable(world)
    refusal = world.client.post(f"/releases/{release}/rollback")
    assert refusal.status_code == 409 and refusal.json()["rule"] == "nothing_before"


def test_rollback_below_a_floor_is_refused_since_no_device_would_obey(world: World) -> None:
    stable(world)
    release = world.publish(2, floor=2)
    for segment in ("canary", "early", "general"):
        world.promote(release, segment)
        commit(world, release, segment)
    world.judge()
    assert world.client.post(f"/releases/{release}/rollback").json()["rule"] == "below_floor"


def test_r11_a_later_release_supersedes_the_one_under_way(world: World) -> None:
    second = start(world)
    third = world.publish(3)
    assert world.promote(third, "canary").status_code == 200
    assert world.state(second) == "superseded"
    candidate = world.manifest("canary").candidate
    assert candidate is not None and candidate.id == third
    assert world.promote(second, "canary").json()["rule"] == "state"


def test_r10_an_older_release_cannot_follow_a_newer_one(world: World) -> None:
    older = world.publish(1)
    start_newer = world.publish(2)
    assert world.promote(start_newer, "canary").status_code == 200
    refusal = world.promote(older, "canary")
    assert refusal.status_code == 409 and refusal.json()["rule"] == "older_than_active"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        pytest.param({"fleet": "other"}, "fleet", id="another fleet"),
        pytest.param({"id": "kiosk-9-bbbbbbbbbbbb"}, "sequence", id="a sequence that is taken"),
        pytest.param({"version": "changed"}, "immutable", id="the same id with other content"),
    ],
)
def test_a_release_that_contradicts_what_is_known_is_refused(
    world: World, changes: dict[str, Any], rule: str
) -> None:
    world.publish(1)
    body = {"envelope": _b64(world.signed_release(1, **changes))}
    answer = world.client.post("/releases", json=body)
    assert answer.status_code == 409 and answer.json()["rule"] == rule


def test_a_release_by_an_unknown_key_is_refused_with_the_way_out(world: World) -> None:
    release = kit.sign(kit.release(), "release", ["stranger"])
    answer = world.client.post("/releases", json={"envelope": _b64(release)})
    assert answer.status_code == 409 and answer.json()["rule"] == "release_threshold"
    assert "sign it with keys that root 1 names" in answer.json()["detail"]


def test_a_release_signed_by_more_keys_is_the_same_release_and_is_hoisted_with_them(world: World) -> None:
    release = world.publish(1)
    world.promote(release, "canary")
    signed = add_signature(world.signed_release(1), kit.key("release-2"), limit=6 * 1024)
    assert world.client.post("/releases", json={"envelope": _b64(signed)}).status_code == 201
    again = open_envelope(world.manifest("canary").manifest.candidate or b"", limit=6 * 1024)
    assert {entry.keyid for entry in again.signatures} == {kit.keyid("release-1"), kit.keyid("release-2")}


def test_release_keys_are_replaced_without_losing_a_device(world: World) -> None:
    release = world.publish(1)
    world.promote(release, "canary")
    rotated = kit.signed_root(2, releases=("release-2",))
    refused = world.client.post("/trust/roots", content=rotated)
    assert refused.status_code == 409 and refused.json()["rule"] == "release_keys"
    signed = add_signature(world.signed_release(1), kit.key("release-2"), limit=6 * 1024)
    world.client.post("/releases", json={"envelope": _b64(signed)})
    assert world.client.post("/trust/roots", content=rotated).status_code == 201
    other = world.publish(2, signers=("release-2",))
    assert world.promote(other, "canary").status_code == 200


def test_a_release_that_no_device_would_trust_any_more_is_not_promoted(world: World) -> None:
    release = world.publish(1)
    assert (
        world.client.post("/trust/roots", content=kit.signed_root(2, releases=("release-2",))).status_code
        == 201
    )
    refused = world.promote(release, "canary")
    assert refused.status_code == 409 and refused.json()["rule"] == "release_threshold"


def test_a_new_deployment_key_signs_everything_again_once_the_root_names_it(world: World) -> None:
    world.publish(1)
    device = world.device("shop-1")
    paths = ("/manifests/kiosk/early", f"/devices/{device}/desired")
    before = [world.client.get(path).content for path in paths]
    world.signer._key = kit.key("hub-2")
    sign_again_if_due(world.store, world.signer, world.deployment, world.registry)
    assert [world.client.get(path).content for path in paths] == before, "no device would trust it yet"
    assert (
        world.client.post("/trust/roots", content=kit.signed_root(2, deployments=("hub-2",))).status_code
        == 201
    )
    after = [open_envelope(world.client.get(path).content, limit=1 << 14) for path in paths]
    assert {entry.keyid for envelope in after for entry in envelope.signatures} == {kit.keyid("hub-2")}


def test_declaring_the_same_release_again_answers_the_same(world: World) -> None:
    release = world.publish(1)
    again = world.client.post("/releases", json={"envelope": _b64(world.signed_release(1))})
    assert again.status_code == 201 and again.json()["id"] == release and again.json()["state"] == "published"


def test_a_draft_cannot_be_promoted(world: World) -> None:
    answer = world.client.post("/releases", json={"envelope": _b64(world.signed_release(1)), "policy": EAGER})
    refusal = world.promote(answer.json()["id"], "canary")
    assert refusal.status_code == 409 and refusal.json()["rule"] == "state"


def test_r8_the_preview_of_a_device_is_what_the_device_decides(world: World) -> None:
    release = start(world)
    device = world.device("canary-9")
    world.heartbeat(device, running=("kiosk-1-aaaaaaaaaaaa", 1))
    shown = world.client.get(f"/releases/{release}/eligibility/{device}").json()
    assert shown["reason"] == "eligible" and shown["reason"] in REASONS
    world.client.post(f"/releases/{release}/pause")
    assert world.client.get(f"/releases/{release}/eligibility/{device}").json()["reason"] == "paused"


def test_a_release_that_has_not_reached_a_segment_says_so(world: World) -> None:
    release = start(world)
    device = world.device("early-9", "early")
    world.heartbeat(device, running=("kiosk-1-aaaaaaaaaaaa", 1), segment="early")
    shown = world.client.get(f"/releases/{release}/eligibility/{device}").json()
    assert shown["reason"] == "segment_not_reached"


def test_a_device_locked_to_its_version_refuses_the_candidate(world: World) -> None:
    release = start(world)
    device = world.device("canary-9")
    world.heartbeat(device, running=("kiosk-1-aaaaaaaaaaaa", 1))
    patched = world.client.patch(f"/devices/{device}", json={"version_lock": "kiosk-1-aaaaaaaaaaaa"})
    assert patched.status_code == 200
    shown = world.client.get(f"/releases/{release}/eligibility/{device}").json()
    assert shown["reason"] == "version_locked"


def test_manifests_are_signed_anew_before_they_expire(world: World) -> None:
    world.publish(1)
    before = world.manifest("canary").manifest
    world.now += 10 * kit.DAY
    assert world.deployment.refresh(_rule(), before=world.now + 7 * kit.DAY) == 3
    after = world.manifest("canary").manifest
    assert after.issued_at > before.issued_at and after.expires_at > before.expires_at
    assert world.deployment.refresh(_rule(), before=world.now + 7 * kit.DAY) == 0


def test_a_hub_whose_clock_fell_back_refuses_to_sign(world: World) -> None:
    release = world.publish(1)
    world.now -= 120_000
    refusal = world.promote(release, "canary")
    assert refusal.status_code == 409 and refusal.json()["rule"] == "clock_behind"
    assert world.state(release) == "published", "nothing of a refused promotion stays"


def test_every_verb_is_one_event_in_the_chain(world: World) -> None:
    release = start(world)
    world.client.post(f"/releases/{release}/pause")
    world.client.post(f"/releases/{release}/resume")
    world.client.post(f"/releases/{release}/rollback")
    kinds = [kind for kind in world.events() if kind.startswith("release.")]
    assert kinds[-6:] == [
        "release.declared",
        "release.published",
        "release.promoted",
        "release.paused",
        "release.resumed",
        "release.rolled_back",
    ]


def test_a_bundle_other_than_the_signed_one_is_refused_and_not_kept(world: World) -> None:
    answer = world.client.post("/releases", json={"envelope": _b64(world.signed_release(1))})
    release = answer.json()["id"]
    refusal = world.client.post(f"/artifacts/kiosk/{release}", content=make_bundle(extra=b"x"))
    assert refusal.status_code in (413, 422)
    assert world.state(release) == "draft"
    assert not any(path.is_file() for path in world.files.path("00").parent.parent.rglob("*"))


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _rule() -> Caller:
    return rule("refresh")
