"""`flaghoist release publish`: what the hub is asked, and that it ends with 0 only when the hub holds the bundle."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from hub.identity import keys
from tests.hub.cli.conftest import Answer, FakeHub, Flaghoist, Signers
from tests.hub.world import World
from tests.topics import kit
from topics import trust

RELEASE: dict[str, Any] = {"id": "kiosk-7-3f2a9c1b5d4e", "role": "kiosk", "state": "rolling"}
WHOLE: Answer = (304, b"")
MISSING: Answer = (
    404,
    {"title": "Not found", "detail": "The bundle is missing.", "rule": "artifact_missing"},
)
DAMAGED: Answer = (
    503,
    {"title": "Service unavailable", "detail": "It is damaged.", "rule": "artifact_damaged"},
)
OTHER: Answer = (200, b"other bytes")


@pytest.fixture
def signed(flaghoist: Flaghoist, signers: Signers, built: Path) -> Path:
    assert flaghoist("release", "sign", built, "--key", signers.key("one")).code == 0
    return built


def declared(hub: FakeHub, folder: Path, state: str, *bundle: Answer) -> tuple[str, str, str, str]:
    """Let the hub know the release and answer for its bundle; return the requests that a publication may make."""
    name = folder.name
    upload, ask, show = (
        f"POST /artifacts/kiosk/{name}",
        f"GET /artifacts/kiosk/{name}/bundle",
        f"GET /releases/{name}",
    )
    hub.on("POST /releases", (201, RELEASE | {"id": name, "state": state}))
    hub.on(upload, (201, {"release": name}))
    hub.on(ask, *bundle)
    hub.on(show, (200, RELEASE | {"id": name, "state": "published" if state == "draft" else state}))
    return "POST /releases", upload, ask, show


def test_a_release_is_declared_then_uploaded_then_shown(
    flaghoist: Flaghoist, signed: Path, hub: FakeHub
) -> None:
    declare, upload, ask, show = declared(hub, signed, "draft", WHOLE)
    ran = flaghoist("release", "publish", signed, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.json["state"] == "published"
    assert hub.asked() == [declare, upload, ask, show]
    body, uploaded, asked = hub.requests[0].json, hub.requests[1].body, hub.requests[2].headers
    assert base64.b64decode(body["envelope"]) == (signed / "release.dsse").read_bytes()
    assert body["policy"] == {"failure": {"max_ratio": 0.2}}
    assert uploaded == (signed / "bundle.tar.gz").read_bytes()
    assert asked["If-None-Match"] == f'"{trust.sha256(uploaded)}"'
    assert {request.headers["Authorization"] for request in hub.requests} == {"Bearer letmein"}


def test_publishing_again_after_it_was_done_uploads_nothing(
    flaghoist: Flaghoist, signed: Path, hub: FakeHub
) -> None:
    declare, _, ask, _ = declared(hub, signed, "rolling", WHOLE)
    ran = flaghoist("release", "publish", signed, "--json")
    assert (ran.code, ran.json["state"], hub.asked()) == (0, "rolling", [declare, ask])


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param(MISSING, id="missing"),
        pytest.param(DAMAGED, id="damaged"),
        pytest.param(OTHER, id="of-other-bytes"),
    ],
)
@pytest.mark.parametrize("state", ["published", "rolling", "paused", "complete"])
def test_a_bundle_that_the_hub_has_lost_is_uploaded_again(
    flaghoist: Flaghoist, signed: Path, hub: FakeHub, state: str, lost: Answer
) -> None:
    declare, upload, ask, show = declared(hub, signed, state, lost, WHOLE)
    ran = flaghoist("release", "publish", signed, "--json")
    assert (ran.code, ran.err, ran.json["state"]) == (0, "", state)
    assert hub.asked() == [declare, ask, upload, ask, show]
    assert hub.requests[2].body == (signed / "bundle.tar.gz").read_bytes()


@pytest.mark.parametrize("state", ["draft", "published"])
@pytest.mark.parametrize("lost", [MISSING, DAMAGED, OTHER], ids=["missing", "damaged", "other"])
def test_a_hub_that_takes_a_bundle_and_does_not_hold_it_is_no_success(
    flaghoist: Flaghoist, signed: Path, hub: FakeHub, state: str, lost: Answer
) -> None:
    declared(hub, signed, state, lost)
    ran = flaghoist("release", "publish", signed)
    assert (ran.code, ran.out, ran.err) == (
        1,
        "",
        f"flaghoist: the hub took the bundle of {signed.name} and does not hold it whole; "
        "look at its disk and its log\n",
    )


def test_a_hub_that_cannot_say_what_it_holds_is_not_given_it_again(
    flaghoist: Flaghoist, signed: Path, hub: FakeHub
) -> None:
    declare, _, ask, _ = declared(hub, signed, "published", (503, {"detail": "The database is busy."}))
    ran = flaghoist("release", "publish", signed)
    assert (ran.code, hub.asked()) == (4, [declare, ask])


@pytest.mark.parametrize("loss", ["missing", "damaged", "truncated", "none"])
def test_what_a_real_hubs_disk_has_lost_is_whole_again_after_publishing_again(
    flaghoist: Flaghoist, real: World, built: Path, tmp_path: Path, loss: str
) -> None:
    key, _ = keys.save(tmp_path / "kit", "release", kit.key("release-1"))
    assert flaghoist("release", "sign", built, "--key", key).code == 0
    first = flaghoist("release", "publish", built, "--json")
    assert (first.code, first.json["state"]) == (0, "published"), first.err
    signed = (built / "bundle.tar.gz").read_bytes()
    stored = real.files.path(trust.sha256(signed))
    if loss == "missing":
        stored.unlink()
    elif loss == "damaged":
        stored.write_bytes(signed[:-1] + bytes([signed[-1] ^ 1]))
    elif loss == "truncated":
        stored.write_bytes(signed[:-1])
    again = flaghoist("release", "publish", built, "--json")
    assert (again.code, again.json["state"]) == (0, "published"), again.err
    assert stored.read_bytes() == signed
    bundle = real.client.get(f"/artifacts/kiosk/{built.name}/bundle")
    assert (bundle.status_code, bundle.content) == (200, signed)


def test_another_policy_can_be_given(
    flaghoist: Flaghoist, signed: Path, hub: FakeHub, tmp_path: Path
) -> None:
    policy = tmp_path / "night.json"
    policy.write_text('{"spread_seconds": 600}')
    hub.on("POST /releases", (201, RELEASE))
    hub.on(f"GET /artifacts/kiosk/{signed.name}/bundle", (304, b""))
    assert flaghoist("release", "publish", signed, "--policy", policy).code == 0
    assert hub.requests[0].json["policy"] == {"spread_seconds": 600}
    policy.write_text("[1]")
    ran = flaghoist("release", "publish", signed, "--policy", policy)
    assert (ran.code, ran.err) == (
        1,
        f"flaghoist: {policy} is not a JSON object; docs/bundle.md shows a rollout policy\n",
    )
