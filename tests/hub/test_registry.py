"""Registration and the registry over the API: what a device and an operator see."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from hub.identity.ca import LEAF_DAYS
from hub.registry import revoked, rules
from tests.hub.world import MSGPACK, World
from tests.topics import kit
from topics import codec, devicetoken, enrolment, trust
from topics.channels import DESIRED


def answer_of(response: Any) -> enrolment.RegisterAnswer:
    assert response.status_code == 200, response.text
    return codec.decode(response.content, enrolment.RegisterAnswer, limit=1 << 17)


def test_a_registration_answers_all_that_a_device_needs_and_each_part_proves_itself(world: World) -> None:
    token = world.new_token("early")
    answer = answer_of(world.register("shop-1", token))
    state = trust.pin_root(answer.roots[0], token.root_sha256)
    config = trust.accept_config(state, "shop-1", answer.config)
    topic = DESIRED.topic(kit.FLEET, id="shop-1")
    desired = trust.accept_desired(state, topic, answer.desired, kit.NO_CLOCK)[1].desired
    assert (config.role, config.segment, config.mqtt_port) == ("kiosk", "early", 8883)
    assert (desired.role, desired.segment) == ("kiosk", "early")
    assert world.authorities.device.pem == answer.ca_pem
    assert "BEGIN CERTIFICATE" in answer.certificate_pem


def test_the_same_device_asking_again_gets_the_same_answer_and_spends_no_second_use(world: World) -> None:
    token = world.new_token(uses=1)
    first, again = (answer_of(world.register("shop-1", token)) for _ in range(2))
    assert first == again
    refused = world.register("shop-2", token)
    assert refused.status_code == 401 and refused.json()["rule"] == "token_used"


def test_an_id_that_is_taken_by_another_key_is_refused(world: World) -> None:
    world.device("shop-1")
    refused = world.register("shop-1", world.new_token(), kit.key("impostor"))
    assert refused.status_code == 409 and refused.json()["rule"] == "id_taken"


def test_a_device_that_an_operator_let_take_a_new_key_is_heard_from_its_first_boot_on(world: World) -> None:
    device = world.device("shop-1")
    world.heartbeat(device, boot=(900, "0" * 8))
    assert world.client.patch(f"/devices/{device}", json={"rekey_allowed": True}).status_code == 200
    assert world.register(device, world.new_token(), kit.key("reimaged")).status_code == 200
    world.heartbeat(device, boot=(1, "1" * 8), running=("kiosk-3-aaaaaaaaaaaa", 3))
    assert world.client.get(f"/devices/{device}").json()["running"] == "kiosk-3-aaaaaaaaaaaa"
    assert world.register(device, world.new_token(), kit.key("third")).status_code == 409


def test_a_new_device_inherits_nothing_of_a_deleted_one(world: World) -> None:
    release = world.publish(1)
    world.result(world.device("shop-1"), release, "committed")
    assert world.client.delete("/devices/shop-1").status_code == 204
    timeline = world.client.get(f"/telemetry/devices/{world.device('shop-2')}").json()
    assert timeline["status"] is None and timeline["reports"] == []


def test_h7_one_device_registering_many_times_at_once_is_one_device(world: World) -> None:
    token = world.new_token(uses=20)
    nonces = [world.challenge(token, "shop-1") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda nonce: world.prove(token, kit.key("shop-1"), "shop-1", nonce), nonces))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(world.client.get("/devices").json()["items"]) == 1


def test_r13_an_id_with_upper_case_is_refused_rather_than_folded(world: World) -> None:
    token = world.new_token()
    body = msgspec.msgpack.encode(
        {"token_id": token.id, "device_id": "Shop-1", "public_key": kit.public("x")}
    )
    refused = world.client.post("/devices/register", content=body, headers=MSGPACK)
    assert refused.status_code == 422 and refused.json()["rule"] == "invalid"


@pytest.mark.parametrize(
    ("break_it", "rule"),
    [
        pytest.param(
            lambda w, t: w.prove(t, kit.key("shop-1"), "shop-1", b"n" * 40), "nonce", id="a made-up nonce"
        ),
        pytest.param(
            lambda w, t: w.prove(t, kit.key("shop-1"), "shop-1", w.challenge(t, "shop-2")),
            "nonce",
            id="another's nonce",
        ),
        pytest.param(
            lambda w, t: w.prove(
                enrolment.Token(b"?" * 32, t.root_sha256, t.ca_sha256),
                kit.key("x"),
                "shop-1",
                w.challenge(t, "shop-1"),
            ),
            "proof",
            id="a token nobody made",
        ),
    ],
)
def test_a_registration_without_a_good_proof_is_refused(world: World, break_it: Any, rule: str) -> None:
    refused = break_it(world, world.new_token())
    assert refused.status_code == 401 and refused.json()["rule"] == rule
    assert world.client.get("/devices").json()["items"] == []


def test_a_token_of_another_role_takes_over_no_device_though_it_may_enrol_anew(world: World) -> None:
    """A fleet's token for kiosks, as it lies in an image, must not become the gateway whose disk is being replaced."""
    device = world.device("shop-1")
    before = world.client.get(f"/devices/{device}").json()
    world.client.patch(f"/devices/{device}", json={"rekey_allowed": True})
    foreign = world.new_token(role="gateway")
    refused = world.register("shop-1", foreign, kit.key("thief"))
    assert (refused.status_code, refused.json()["rule"]) == (401, "token_role")
    assert world.register("shop-1", world.new_token(), kit.key("new disk")).status_code == 200
    assert world.client.get(f"/devices/{device}").json()["role"] == before["role"]


def test_a_nonce_lives_for_a_minute_and_a_token_for_what_it_was_given(world: World) -> None:
    token = world.new_token(expires_in=120)
    nonce = world.challenge(token, "shop-1")
    world.now += 60_001
    late = world.prove(token, kit.key("shop-1"), "shop-1", nonce)
    assert late.json()["rule"] == "nonce"
    world.now += 60_000
    expired = world.register("shop-1", token)
    assert expired.status_code == 401 and expired.json()["rule"] == "token_expired"


def test_no_token_can_be_made_before_there_is_a_root_to_pin(bare: World) -> None:
    refused = bare.client.post("/devices/enrolment-tokens", json={"role": "kiosk"})
    assert refused.status_code == 409 and refused.json()["rule"] == "no_root"


def test_a_change_is_signed_into_the_desired_state_and_guarded_by_its_etag(world: World) -> None:
    device = world.device("shop-1")
    shown = world.client.get(f"/devices/{device}")
    etag = shown.headers["etag"]
    change = {"segment": "general", "tags": {"aisle": "4"}, "update_interval": 60}
    changed = world.client.patch(f"/devices/{device}", json=change, headers={"If-Match": etag})
    assert changed.status_code == 200 and changed.json()["segment"] == "general"
    stale = world.client.patch(f"/devices/{device}", json=change, headers={"If-Match": etag})
    assert stale.status_code == 412
    root = kit.signed_root()
    data = world.client.get(f"/devices/{device}/desired").content
    topic = DESIRED.topic(kit.FLEET, id=device)
    state = trust.pin_root(root, trust.sha256(root))
    desired = trust.accept_desired(state, topic, data, kit.NO_CLOCK)[1].desired
    assert (desired.segment, desired.tags, desired.update_interval) == ("general", {"aisle": "4"}, 60)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"segment": "beta"}, id="no such segment"),
        pytest.param({"role": "KIOSK"}, id="a role in upper case"),
        pytest.param({"update_interval": 1}, id="too often"),
        pytest.param({"update_intervall": 60}, id="a misspelt field"),
        pytest.param({"device_id": "shop-2"}, id="its id"),
    ],
)
def test_a_change_that_is_not_understood_changes_nothing(world: World, change: dict[str, Any]) -> None:
    device = world.device("shop-1")
    before = world.client.get(f"/devices/{device}").json()
    assert world.client.patch(f"/devices/{device}", json=change).status_code in (400, 422)
    assert world.client.get(f"/devices/{device}").json() == before


def test_a_device_cannot_be_locked_to_a_release_that_is_not_published(world: World) -> None:
    device = world.device("shop-1")
    refused = world.client.patch(f"/devices/{device}", json={"version_lock": "kiosk-9-aaaaaaaaaaaa"})
    assert refused.status_code == 409 and refused.json()["rule"] == "version_lock"


def test_a_revoked_device_is_shut_out_and_its_id_stays_taken(world: World) -> None:
    device = world.device("shop-1")
    token = device_token(world, "shop-1")
    own = f"/devices/{device}/desired"
    assert world.client.get(own, headers=bearer(token)).status_code == 200
    assert world.client.post(f"/devices/{device}/revoke").status_code == 200
    assert world.client.get(own, headers=bearer(token)).status_code == 401
    assert world.register("shop-1", world.new_token()).json()["rule"] == "revoked"


def test_the_certificate_goes_with_the_identity_also_of_what_is_deleted_or_made_anew(world: World) -> None:
    for name in ("shop-1", "shop-2", "shop-3", "shop-4"):
        world.device(name)
    world.client.post("/devices/shop-1/revoke")
    world.client.delete("/devices/shop-1")
    world.client.delete("/devices/shop-2")
    world.client.patch("/devices/shop-3", json={"rekey_allowed": True})
    assert world.register("shop-3", world.new_token(), kit.key("new")).status_code == 200
    gone = revoked.withdrawn(world.store, world.now)
    assert [one.device_id for one in gone] == ["shop-1", "shop-2", "shop-3"]
    assert revoked.last(world.store) == gone[-1].n
    assert revoked.withdrawn(world.store, world.now + (LEAF_DAYS + 1) * 86_400_000) == []
    shut_out = [n for n in range(1, 6) if revoked.is_shut_out(world.store, f"shop-{n}")]
    assert shut_out == [1, 2], "shop-3 has a new certificate, shop-4 its own, and of shop-5 nobody knows"


def test_a_device_reads_what_is_its_own_and_nothing_of_another(world: World) -> None:
    world.device("shop-1")
    world.device("shop-2")
    token = bearer(device_token(world, "shop-1"))
    assert world.client.get("/manifests/kiosk/canary", headers=token).status_code == 200
    assert world.client.get("/devices/shop-2/desired", headers=token).json()["rule"] == "own_device"
    assert world.client.get("/devices/shop-1", headers=token).status_code == 403
    forged = bearer(device_token(world, "shop-2", key="shop-1"))
    assert world.client.get("/devices/shop-2/desired", headers=forged).status_code == 401


def test_devices_are_listed_a_page_at_a_time_and_h3_a_wrong_limit_is_an_error(world: World) -> None:
    for number in range(5):
        world.device(f"shop-{number}", "canary" if number % 2 else "early")
    first = world.client.get("/devices", params={"limit": 3}).json()
    rest = world.client.get("/devices", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [row["device_id"] for row in first["items"] + rest["items"]] == [f"shop-{n}" for n in range(5)]
    assert rest["next_cursor"] is None
    assert len(world.client.get("/devices", params={"segment": "canary"}).json()["items"]) == 2
    for limit in (0, 501, -1):
        assert world.client.get("/devices", params={"limit": limit}).status_code == 422
    assert world.client.get("/devices", params={"limit": "many"}).status_code == 400


@pytest.mark.parametrize(
    "query",
    [
        pytest.param({}, id="all"),
        pytest.param({"role": "kiosk"}, id="a role in all segments"),
        pytest.param({"segment": "early"}, id="a segment of all roles"),
        pytest.param({"role": "gateway", "segment": "canary"}, id="both"),
        pytest.param({"role": "till"}, id="a role that does not exist"),
    ],
)
def test_filters_let_the_same_devices_through_on_any_size_of_page(
    world: World, query: dict[str, str]
) -> None:
    places = [
        ("kiosk", "early"),
        ("gateway", "canary"),
        ("kiosk", "canary"),
        ("gateway", "early"),
        ("kiosk", "general"),
    ]
    tokens = {place: world.new_token(place[1], role=place[0], uses=9) for place in places}
    wanted = []
    for number in range(12):
        role, segment = place = places[number * 3 % 5]
        assert world.register(f"shop-{number:02d}", tokens[place]).status_code == 200
        if query.get("role", role) == role and query.get("segment", segment) == segment:
            wanted.append(f"shop-{number:02d}")
    for limit in (1, 3, 500):
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = world.client.get("/devices", params={**query, **cursor, "limit": limit}).json()
            found += [item["device_id"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert found == wanted


@pytest.mark.parametrize(
    ("state", "heard_ago_s", "wakes_in_s", "shown"),
    [
        pytest.param(None, None, 0, "unknown", id="never heard of"),
        pytest.param("online", 0, 0, "online", id="just heard"),
        pytest.param("online", 180, 0, "online", id="three intervals late"),
        pytest.param("online", 181, 0, "offline", id="more than three intervals late"),
        pytest.param("offline", 0, 0, "offline", id="its last will"),
        pytest.param("sleeping", 3600, 100, "sleeping", id="asleep until later"),
        pytest.param("sleeping", 3600, -181, "offline", id="overslept"),
    ],
)
def test_presence_is_what_was_said_and_what_was_missed(
    state: str | None, heard_ago_s: int | None, wakes_in_s: int, shown: str
) -> None:
    heard = None if heard_ago_s is None else kit.NOW - heard_ago_s * 1000
    assert rules.presence(state, heard, kit.NOW // 1000 + wakes_in_s, 60, kit.NOW) == shown


def device_token(world: World, device_id: str, key: str | None = None) -> str:
    now = world.now // 1000
    claims = devicetoken.Claims(device_id, devicetoken.audience(kit.FLEET), now, now + 60, "1")
    return devicetoken.make(kit.key(key or device_id), claims)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
