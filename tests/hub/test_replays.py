"""A device's token in other hands: another body, the same post again, and a memory that does not grow."""

from __future__ import annotations

import base64
import hmac
from typing import Any

import pytest

from hub.errors import RequestError, TooMany
from hub.identity.replays import SPAN, Replays
from tests.hub.test_certificates import bearer
from tests.hub.world import MSGPACK, World
from tests.topics import kit
from topics import codec, devicetoken
from topics.devicetoken import LIFETIME, Claims
from topics.messages import Status

STATUS = codec.encode(
    Status(boot=(1, "0" * 8), at=kit.NOW // 1000, seq=1, role="kiosk", segment="canary", agent_version="1")
)
WORSE = codec.encode(
    Status(
        boot=(1, "0" * 8),
        at=kit.NOW // 1000,
        seq=2,
        role="kiosk",
        segment="canary",
        agent_version="1",
        health="failing",
    )
)


def unbound(world: World, jti: str, **changes: Any) -> dict[str, str]:
    """The header of a token by an agent that names no body."""
    now = world.now // 1000
    fields = {"sub": "shop-1", "aud": devicetoken.audience(kit.FLEET), "iat": now, "exp": now + 60}
    claims = Claims(**{**fields, "jti": jti, **changes})
    return {"Authorization": f"Bearer {devicetoken.make(kit.key('shop-1'), claims)}"}


def post(world: World, header: dict[str, str], body: bytes = STATUS) -> Any:
    return world.client.post("/telemetry/status", content=body, headers={**MSGPACK, **header})


def test_a_token_that_was_read_along_brings_no_other_report(world: World) -> None:
    world.device("shop-1")
    header = bearer(world, "shop-1", STATUS)
    assert post(world, header).status_code == 204
    refused = post(world, header, WORSE)
    assert (refused.status_code, refused.json()["rule"]) == (401, "token_body")
    assert post(world, header).status_code == 204, "the same again changes nothing, and counts once"
    assert world.client.get("/devices/shop-1").json()["health"] == "ok"


def test_a_token_without_a_body_is_good_for_one_post_and_any_number_of_reads(world: World) -> None:
    world.device("shop-1")
    header = unbound(world, "1")
    for _ in range(3):
        assert world.client.get("/devices/shop-1/desired", headers=header).status_code == 200
    assert post(world, header).status_code == 204
    refused = post(world, header, WORSE)
    assert (refused.status_code, refused.json()["rule"]) == (401, "token_used")
    assert post(world, unbound(world, "2"), WORSE).status_code == 204


ATTACKS = [
    pytest.param({"aud": "flaghoist:umbrella"}, id="for another fleet"),
    pytest.param({"iat": kit.NOW // 1000 + 3600, "exp": kit.NOW // 1000 + 3660}, id="of the future"),
    pytest.param({"iat": kit.NOW // 1000 - 3660, "exp": kit.NOW // 1000 - 3600}, id="of the past"),
    pytest.param({"exp": kit.NOW // 1000 + LIFETIME + 1}, id="good for too long"),
    pytest.param({"sub": "shop-2"}, id="in the name of another device"),
    pytest.param({"sub": "shop-9"}, id="in the name of no device"),
]


@pytest.mark.parametrize("changes", ATTACKS)
def test_tokens_that_an_attacker_would_make(world: World, changes: dict[str, Any]) -> None:
    world.device("shop-1")
    world.device("shop-2")
    assert post(world, unbound(world, "1", **changes)).status_code == 401


@pytest.mark.parametrize(
    ("header", "secret"),
    [
        pytest.param(b'{"alg":"none","typ":"JWT"}', b"", id="algorithm none"),
        pytest.param(
            b'{"alg":"HS256","typ":"JWT"}', kit.public("shop-1"), id="a MAC keyed with the public key"
        ),
    ],
)
def test_tokens_by_other_algorithms(world: World, header: bytes, secret: bytes) -> None:
    world.device("shop-1")
    good = unbound(world, "1")["Authorization"].removeprefix("Bearer ")
    head = base64.urlsafe_b64encode(header).rstrip(b"=").decode()
    text = f"{head}.{good.split('.')[1]}"
    mac = hmac.digest(secret, text.encode(), "sha256") if secret else b""
    forged = f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    refused = post(world, {"Authorization": f"Bearer {forged}"})
    assert (refused.status_code, refused.json()["rule"]) == (401, "device_token")


def claims(jti: str, device: str = "shop-1") -> Claims:
    return Claims(device, "flaghoist:acme", 0, 60, jti)


def refusal(replays: Replays, jti: str, now: int, device: str = "shop-1") -> str:
    try:
        replays.check(claims(jti, device), b"", now)
    except RequestError as error:
        return error.rule
    return ""


def test_a_token_is_remembered_for_as_long_as_it_may_be_valid() -> None:
    replays = Replays()
    assert refusal(replays, "a", 1000) == ""
    assert refusal(replays, "b", 1000 + SPAN - 1) == ""
    for later in (1000 + SPAN - 1, 1000 + SPAN, 1000 + 2 * SPAN - 2):
        assert refusal(replays, "b", later) == "token_used"


def test_memory_is_bounded_and_a_full_one_refuses_rather_than_forgets() -> None:
    replays = Replays(most=5, most_each=3)
    assert [refusal(replays, str(n), 1000) for n in range(4)] == ["", "", "", "token_memory"]
    assert [refusal(replays, str(n), 1000, "shop-2") for n in range(3)] == ["", "", "token_memory"]
    assert refusal(replays, "0", 1000) == "token_used"
    with pytest.raises(TooMany) as full:
        replays.check(claims("9"), b"", 1010)
    assert full.value.retry_after == SPAN - 10
    assert refusal(replays, "9", 1000 + SPAN) == ""


def test_a_clock_that_is_set_back_does_not_make_a_token_good_again() -> None:
    replays = Replays()
    assert refusal(replays, "a", 5000) == ""
    assert refusal(replays, "a", 10) == "token_used"
