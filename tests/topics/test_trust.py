"""What trust does over time: what is kept, what is reset, what an expired root or manifest still allows."""

from __future__ import annotations

import msgspec
import pytest

from tests.topics.kit import (
    CLOCK,
    DAY,
    DESIRED_TOPIC,
    DEVICE,
    NO_CLOCK,
    NOW,
    TOPIC,
    config,
    facts,
    pinned,
    release,
    sign,
    signed_desired,
    signed_manifest,
    signed_release,
    signed_root,
    trusted_until,
)
from topics.eligibility import decide
from topics.errors import TrustError
from topics.trust import accept_config, accept_desired, accept_manifest, advance_root


def test_an_attack_changes_nothing_that_is_trusted() -> None:
    """After a refusal the state is the same value, so the next good manifest is still accepted."""
    state = trusted_until(signed_manifest(NOW))
    before = msgspec.msgpack.encode(state)
    with pytest.raises(TrustError):
        accept_manifest(state, TOPIC, signed_manifest(NOW + 1, signers=("stranger",)), CLOCK)
    assert msgspec.msgpack.encode(state) == before
    after, _ = accept_manifest(state, TOPIC, signed_manifest(NOW + 1), CLOCK)
    assert after.issued_at(TOPIC) == NOW + 1


def test_freeze_starts_nothing_new_but_still_obeys_pause() -> None:
    """A broker that withholds newer manifests holds a device on an expired one: nothing starts."""
    state, fresh = accept_manifest(pinned(), TOPIC, signed_manifest(), CLOCK)
    assert decide(state, fresh, None, facts(), NOW).reason == "eligible"
    assert decide(state, fresh, None, facts(), NOW + 8 * DAY).reason == "manifest_expired"
    state, paused = accept_manifest(state, TOPIC, signed_manifest(NOW + 1, paused=True), CLOCK)
    assert decide(state, paused, None, facts(), NOW + 8 * DAY).reason == "paused"


def test_freeze_of_the_clock_does_not_revive_an_expired_manifest() -> None:
    """A device that boots in 1970 takes the newest trusted document's time as the least it can be."""
    state, trusted = accept_manifest(pinned(), TOPIC, signed_manifest(expires_at=NOW), NO_CLOCK)
    assert state.time(NO_CLOCK) == NOW
    assert decide(state, trusted, None, facts(), state.time(NO_CLOCK)).reason == "manifest_expired"


def test_a_message_seen_before_is_no_news_and_no_attack() -> None:
    """A broker sends retained messages again at every reconnect: the same bytes change nothing."""
    data = signed_manifest()
    state = trusted_until(data)
    again, trusted = accept_manifest(state, TOPIC, data, CLOCK)
    assert again == state
    assert trusted.stable == release(7)
    rooted = pinned()
    assert advance_root(rooted, rooted.root_bytes) is rooted


def test_expired_root_starts_nothing() -> None:
    state = pinned(signed_root(expires_at=NOW + 1))
    state, trusted = accept_manifest(state, TOPIC, signed_manifest(), CLOCK)
    decision = decide(state, trusted, None, facts(), NOW + 1)
    assert (decision.reason, decision.check) == ("untrusted", "root_expired")


def test_expired_root_is_still_replaced_by_its_successor() -> None:
    """A device that slept through the expiry catches up with the chain; expiry blocks starting, not trust."""
    state = pinned(signed_root(expires_at=NOW - DAY))
    assert state.expired(NOW)
    assert not advance_root(state, signed_root(2)).expired(NOW)


def test_poisoned_issued_at_is_reset_by_a_root_that_changes_the_deployment_keys() -> None:
    poisoned = trusted_until(signed_manifest(NOW + DAY))
    with pytest.raises(TrustError, match="replayed"):
        accept_manifest(poisoned, TOPIC, signed_manifest(NOW + 1), CLOCK)
    rotated = advance_root(poisoned, signed_root(2, deployments=("hub-2",)))
    assert rotated.issued_at(TOPIC) == 0
    mended, _ = accept_manifest(rotated, TOPIC, signed_manifest(NOW + 1, signers=("hub-2",)), CLOCK)
    assert mended.issued_at(TOPIC) == NOW + 1
    with pytest.raises(TrustError, match="deployment_threshold"):
        accept_manifest(mended, TOPIC, signed_manifest(NOW + 2), CLOCK)


def test_a_root_that_keeps_the_deployment_keys_keeps_the_marks() -> None:
    """Otherwise any root rotation would open the door to a replay."""
    state = advance_root(trusted_until(signed_manifest(NOW)), signed_root(2, releases=("release-2",)))
    with pytest.raises(TrustError, match="replayed"):
        accept_manifest(state, TOPIC, signed_manifest(NOW - 1, stable=None), CLOCK)


def test_a_root_that_only_adds_a_deployment_key_keeps_the_marks() -> None:
    """The kept key's older documents are still signed by a trusted key; only the marks keep them out."""
    state = trusted_until(signed_manifest(NOW))
    added = advance_root(state, signed_root(2, deployments=("hub-1", "hub-2")))
    with pytest.raises(TrustError, match="replayed"):
        accept_manifest(added, TOPIC, signed_manifest(NOW - 1), CLOCK)


def test_floors_are_counted_per_role_as_sequences_are() -> None:
    till = signed_manifest(
        role="till", to="acme/v1/releases/till/canary", stable=signed_release(9, role="till", floor=9)
    )
    state, _ = accept_manifest(pinned(), "acme/v1/releases/till/canary", till, CLOCK)
    assert (state.floor("till"), state.floor("kiosk")) == (9, 0)


def test_a_root_that_changes_the_deployment_keys_keeps_the_floor() -> None:
    state = trusted_until(signed_manifest(stable=signed_release(7, floor=5)))
    assert advance_root(state, signed_root(2, deployments=("hub-2",))).floor("kiosk") == 5


def test_every_release_a_device_is_shown_counts_for_the_floor() -> None:
    """Stable, candidate, waypoint and lock: whatever the release keys signed is a word on how far back one may go."""
    shown = signed_release(9, floor=4)
    for place in ({"stable": shown}, {"candidate": shown}, {"waypoints": [shown]}):
        state, _ = accept_manifest(pinned(), TOPIC, signed_manifest(**place), CLOCK)
        assert state.floor("kiosk") == 4
    state, _ = accept_desired(pinned(), DESIRED_TOPIC, signed_desired(version_lock=shown), CLOCK)
    assert state.floor("kiosk") == 4


def test_compromised_deployment_key_may_only_point_at_signed_releases_above_the_floor() -> None:
    """It re-targets among what the release keys signed, and the floor bounds how far back."""
    state = trusted_until(signed_manifest(stable=signed_release(7, floor=5)))
    state, backwards = accept_manifest(
        state,
        TOPIC,
        signed_manifest(NOW + 1, stable=signed_release(6), event="rollback", rollback_from=7),
        CLOCK,
    )
    on_seven = facts(running=release(7).id, running_sequence=7, floor=state.floor("kiosk"))
    assert decide(state, backwards, None, on_seven, NOW).reason == "eligible"
    state, too_far = accept_manifest(
        state,
        TOPIC,
        signed_manifest(NOW + 2, stable=signed_release(4), event="rollback", rollback_from=7),
        CLOCK,
    )
    assert state.floor("kiosk") == 5
    assert decide(state, too_far, None, on_seven, NOW).reason == "below_floor"


def test_wrong_hardware_is_refused_by_the_device() -> None:
    built_for_other = signed_release(requires={"hardware": ["imx8"]})
    state, trusted = accept_manifest(pinned(), TOPIC, signed_manifest(stable=built_for_other), CLOCK)
    assert decide(state, trusted, None, facts(hardware="rpi4"), NOW).reason == "wrong_hardware"


def test_both_release_keys_together_pass_threshold_two() -> None:
    state = pinned(signed_root(releases=("release-1", "release-2"), thresholds={"release": 2}))
    both = signed_manifest(stable=signed_release(signers=("release-1", "release-2")))
    _, trusted = accept_manifest(state, TOPIC, both, CLOCK)
    assert trusted.stable is not None


def test_config_of_this_device_is_accepted() -> None:
    assert accept_config(pinned(), DEVICE, sign(config(), "config", ["hub-1"])) == config()
