"""A dry run says exactly who would move, and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from hub.deployment import preview
from tests.hub.world import World
from topics import trust
from topics.eligibility import decide, takes_candidate
from topics.trust import TrustedDesired


def dry(world: World, release: str, segment: str, percentage: float) -> Any:
    answer = world.client.post(
        f"/releases/{release}/promote",
        params={"dry_run": "true"},
        json={"targetSegment": segment, "rolloutPercentage": percentage},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def fleet(world: World, count: int) -> list[str]:
    token = world.new_token("canary", uses=count)
    names = [f"shop-{number}" for number in range(count)]
    for name in names:
        assert world.register(name, token).status_code == 200
        world.heartbeat(name)
    return names


def test_a_dry_run_names_who_would_move_and_changes_nothing(world: World) -> None:
    release = world.publish(1)
    names = fleet(world, 20)
    world.client.patch(f"/devices/{names[0]}", json={"maintenance": True})
    before = world.client.get("/manifests/kiosk/canary").content
    events = world.events()
    shown = dry(world, release, "canary", 50)
    expected = sorted(name for name in names[1:] if takes_candidate(release, name, 5_000))
    assert shown["would_move"] == expected and shown["refused_by"] is None
    assert shown["by_reason"].get("eligible") == len(expected) and shown["devices"] == 20
    assert world.client.get("/manifests/kiosk/canary").content == before
    assert world.events() == events and world.state(release) == "published"


def test_r8_who_was_named_is_who_takes_it_by_the_manifest_that_follows(world: World) -> None:
    release = world.publish(1)
    names = fleet(world, 12)
    world.heartbeat(names[3], failed=[release])
    world.heartbeat(names[4], safe_mode=True)
    world.heartbeat(names[5], running=("kiosk-9-bbbbbbbbbbbb", 9))
    named = dry(world, release, "canary", 70)["would_move"]
    assert world.promote(release, "canary", 70).status_code == 200
    manifest = world.manifest("canary")
    root = world.client.get("/trust/roots/1").content
    state = trust.pin_root(root, trust.sha256(root))
    takers = []
    for name in names:
        shown = world.client.get(f"/releases/{release}/eligibility/{name}").json()
        facts = world.facts(name)
        own = decide(state, manifest, TrustedDesired(world.desired(name), None), facts, world.now)
        assert own.reason == shown["reason"], name
        if own.eligible and own.release and own.release.id == release:
            takers.append(name)
    assert sorted(takers) == named


def test_a_dry_run_of_what_would_be_refused_says_by_which_rule(world: World) -> None:
    release = world.publish(1)
    fleet(world, 2)
    shown = dry(world, release, "early", 100)
    assert shown["refused_by"] == "segment_order" and "canary is next" in shown["detail"]


def test_a_segment_is_gone_through_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    release = world.publish(1)
    names = fleet(world, 9)
    world.client.patch(f"/devices/{names[4]}", json={"maintenance": True})
    whole = dry(world, release, "canary", 60)
    monkeypatch.setattr(preview, "PAGE", 2)
    assert dry(world, release, "canary", 60) == whole
    assert whole["devices"] == 9 and whole["by_reason"]["maintenance"] == 1
