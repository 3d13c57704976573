"""Enrolment tokens: what a fleet's operator sees of them, and how one is withdrawn."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hub.world import World
from tests.topics import kit


def listed(world: World, **query: Any) -> list[dict[str, Any]]:
    answer = world.client.get("/devices/enrolment-tokens", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_tokens_are_listed_with_what_is_left_of_them_and_without_their_secret(world: World) -> None:
    short = world.new_token("early", uses=2, expires_in=60)
    world.now += 1
    spent = world.new_token(uses=1)
    world.register("shop-1", short)
    world.register("shop-2", spent)
    first, second = listed(world)
    assert (first["id"], first["segment"], first["state"], first["uses_left"], first["uses"]) == (
        spent.id, "canary", "used", 0, 1
    )  # fmt: skip
    assert (second["id"], second["state"], second["uses_left"], second["created_by"]) == (
        short.id, "open", 1, "admin"
    )  # fmt: skip
    assert short.secret_hash.hex() not in str(second)
    world.now += 60_000
    assert [item["state"] for item in listed(world)] == ["used", "expired"]


def test_a_withdrawn_token_enrols_nobody_more_and_who_used_it_stays(world: World) -> None:
    token = world.new_token(uses=5)
    assert world.register("shop-1", token).status_code == 200
    for _ in range(2):
        assert world.client.delete(f"/devices/enrolment-tokens/{token.id}").status_code == 204
    for device in ("shop-1", "shop-2"):
        refused = world.register(device, token)
        assert (refused.status_code, refused.json()["rule"]) == (401, "token_revoked")
    assert [item["state"] for item in listed(world)] == ["revoked"]
    assert [item["device_id"] for item in world.client.get("/devices").json()["items"]] == ["shop-1"]
    assert world.events().count("token.revoked") == 1
    assert world.client.delete("/devices/enrolment-tokens/none").status_code == 404


def test_pages_hold_every_token_once_although_many_were_made_in_one_moment(world: World) -> None:
    made = {world.new_token().id for _ in range(7)}
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = world.client.get("/devices/enrolment-tokens", params={"limit": 3, **cursor}).json()
        found += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(found) == 7 and set(found) == made
    for wrong in ({"limit": 0}, {"limit": 501}, {"cursor": "x"}, {"cursor": "1e9.a"}):
        assert world.client.get("/devices/enrolment-tokens", params=wrong).status_code == 422


@pytest.mark.parametrize("name", ["register", "enrolment-tokens"])
def test_no_device_takes_a_name_under_which_nobody_could_reach_it(world: World, name: str) -> None:
    refused = world.register(name, world.new_token(), kit.key(name))
    assert (refused.status_code, refused.json()["rule"]) == (409, "reserved_id")
