"""Nobody asks more than their share: who is counted, what is answered, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.throttle import FAILURES, Throttle
from tests.hub.test_api_keys import bearer, key
from tests.hub.world import World, world
from tests.topics import kit
from topics import devicetoken

ALLOWED = 12


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[World]:
    """A hub that lets each caller ask a dozen times a minute."""
    with world(tmp_path, throttle=Throttle(ALLOWED)) as made:
        made.trust_root()
        yield made


def device_token(asked: World) -> str:
    claims = devicetoken.Claims(
        sub=asked.device("shop-1"),
        aud=devicetoken.audience(kit.FLEET),
        iat=asked.now // 1000,
        exp=asked.now // 1000 + 60,
        jti="0" * 16,
    )
    return devicetoken.make(kit.key("shop-1"), claims)


def statuses(asked: World, path: str, headers: dict[str, str], times: int) -> list[int]:
    return [asked.client.get(path, headers=headers).status_code for _ in range(times)]


def test_one_more_than_allowed_is_told_when_to_ask_again(busy: World) -> None:
    asked = bearer(key(busy))
    assert statuses(busy, "/devices", asked, ALLOWED) == [200] * ALLOWED
    answer = busy.client.get("/devices", headers=asked)
    assert (answer.status_code, answer.json()["rule"]) == (429, "rate_limit")
    assert answer.headers["content-type"] == "application/problem+json"
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert answer.headers["retry-after"] in answer.json()["detail"]


def test_who_floods_the_hub_uses_up_nobody_elses_share(busy: World) -> None:
    flooding = bearer(key(busy))
    calm = bearer(key(busy, name="calm"))
    device = device_token(busy)
    statuses(busy, "/devices", flooding, ALLOWED + 5)
    assert statuses(busy, "/devices", calm, 1) == [200]
    assert statuses(busy, "/schemas", {"Authorization": ""}, 1) == [200]
    own = {"Authorization": f"Bearer {device}"}
    assert statuses(busy, "/devices/shop-1/desired", own, 1) == [200]


def test_an_address_without_credentials_is_counted_as_one(busy: World) -> None:
    assert statuses(busy, "/schemas", {"Authorization": ""}, ALLOWED + 1) == [200] * ALLOWED + [429]


def test_wrong_credentials_run_out_and_right_ones_of_the_same_address_do_not(tmp_path: Path) -> None:
    with world(tmp_path, throttle=Throttle()) as asked:
        right = bearer(key(asked))
        wrong = {"Authorization": "Bearer fhkey_guess"}
        assert statuses(asked, "/devices", wrong, FAILURES + 1) == [401] * FAILURES + [429]
        assert statuses(asked, "/devices", right, 1) == [200]


def test_probes_of_health_and_bundles_are_not_counted(busy: World) -> None:
    asked = bearer(key(busy))
    assert set(statuses(busy, "/health/live", {}, ALLOWED * 2)) == {200}
    assert set(statuses(busy, f"/artifacts/blobs/{'0' * 64}", asked, ALLOWED * 2)) == {404}


def test_nothing_is_counted_with_a_limit_of_none(tmp_path: Path) -> None:
    with world(tmp_path, throttle=Throttle(0)) as asked:
        assert set(statuses(asked, "/devices", {"Authorization": "Bearer no"}, FAILURES * 2)) == {401}


def test_a_body_beyond_the_cap_is_refused_before_it_is_read(busy: World) -> None:
    answer = busy.client.post("/policies", content=b"[" + b" " * 2_000_000 + b"]")
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


def test_every_answer_says_how_a_browser_may_use_it(busy: World) -> None:
    for path in ("/health/live", "/nowhere", "/devices"):
        headers = busy.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
