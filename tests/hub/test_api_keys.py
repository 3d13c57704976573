"""API keys: what each may do, from its making to its end; and every route with every role."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hub import auth
from hub.auth import Authenticator
from hub.caller import RANKS
from hub.errors import Unauthorised
from tests.hub.test_api import filled, handlers
from tests.hub.world import World

ROLES = list(RANKS)


def key(world: World, role: str = "viewer", **more: Any) -> dict[str, Any]:
    answer = world.client.post("/api-keys", json={"name": "ci", "role": role, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def bearer(made: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {made['key']}"}


def test_a_key_opens_what_its_role_opens_and_says_so_in_events(world: World) -> None:
    made = key(world, "operator")
    token = {"role": "kiosk", "segment": "canary"}
    assert world.client.post("/devices/enrolment-tokens", json=token, headers=bearer(made)).status_code == 201
    refused = world.client.post("/api-keys", json={"name": "more"}, headers=bearer(made))
    assert (refused.status_code, refused.json()["rule"]) == (403, "role")
    with world.store.read() as tx:
        row = tx.one("SELECT actor FROM events WHERE kind = 'token.created' ORDER BY id DESC LIMIT 1")
    assert row is not None and row["actor"] == "ci"


def test_the_text_of_a_key_is_shown_once_and_kept_nowhere(world: World) -> None:
    made = key(world)
    listed = world.client.get("/api-keys").json()["items"]
    assert [(item["id"], item["role"], item["created_by"]) for item in listed] == [
        (made["id"], "viewer", "admin"),
        ("admin", "admin", "rule:start"),
    ]
    assert made["key"] not in world.client.get("/api-keys").text
    with world.store.read() as tx:
        for table in ("operators", "events"):
            for row in tx.all(f"SELECT * FROM {table}"):
                assert made["key"] not in str(dict(row))


def test_a_key_ends_when_it_said_it_would_and_stays_listed_as_expired(world: World) -> None:
    made = key(world, expires_in=60)
    assert world.client.get("/devices", headers=bearer(made)).status_code == 200
    world.now += 60_000
    refused = world.client.get("/devices", headers=bearer(made))
    assert (refused.status_code, refused.json()["rule"]) == (401, "expired_token")
    assert [item["expired"] for item in world.client.get("/api-keys").json()["items"]] == [True, False]


def test_a_revoked_key_is_refused_from_then_on(world: World) -> None:
    made = key(world)
    assert world.client.delete(f"/api-keys/{made['id']}").status_code == 204
    assert world.client.get("/devices", headers=bearer(made)).json()["rule"] == "unknown_token"
    assert world.client.delete(f"/api-keys/{made['id']}").status_code == 404


def test_the_first_key_is_replaced_by_its_file_and_the_former_one_is_refused(
    world: World, tmp_path: Path
) -> None:
    assert world.client.delete("/api-keys/admin").json()["rule"] == "first_key"
    path, fleet = tmp_path / "admin.token", world.signer.fleet
    callers = Authenticator(world.store, fleet, lambda: world.now)
    texts = []
    for _ in range(2):
        auth.ensure_admin(world.store, path, world.now)
        texts.append(path.read_text().strip())
        auth.ensure_admin(world.store, path, world.now)
        assert callers.caller(f"Bearer {texts[-1]}", "").role == "admin"
        path.unlink()
    with pytest.raises(Unauthorised):
        callers.caller(f"Bearer {texts[0]}", "")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"role": "viewer"}, id="no-name"),
        pytest.param({"name": ""}, id="empty-name"),
        pytest.param({"name": "ci", "role": "root"}, id="no-such-role"),
        pytest.param({"name": "ci", "expires_in": 59}, id="too-short"),
        pytest.param({"name": "ci", "expires_in": 731 * 86_400}, id="too-long"),
        pytest.param({"name": "ci", "scope": "all"}, id="unknown-field"),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(world: World, body: dict[str, Any]) -> None:
    assert world.client.post("/api-keys", json=body).status_code == 400
    assert len(world.client.get("/api-keys").json()["items"]) == 1


@pytest.mark.parametrize(
    "name", ["rule:gate", "oidc:ann", "device:shop-1", " bob", "bob ", "bob\u200b", "b\u202eob"]
)
def test_a_key_passes_neither_for_somebody_else_nor_for_a_rule_or_a_device(world: World, name: str) -> None:
    answer = world.client.post("/api-keys", json={"name": name})
    assert (answer.status_code, answer.json()["rule"]) == (422, "name")


@pytest.mark.parametrize("role", ROLES)
def test_every_route_opens_for_its_least_role_and_no_lower_one(world: World, role: str) -> None:
    headers = bearer(key(world, role))
    for (method, path), access in handlers(world).items():
        if access == "public" or path == "/events":  # a stream does not end by itself
            continue
        least = "viewer" if access == "device" else access
        # Bodies are left out: who may not is told so before anything else is looked at.
        status = world.client.request(method, filled(path), headers=headers).status_code
        refused = least == "device-only" or RANKS[role] < RANKS[least]
        assert (status == 403) == refused, f"{method} {path} answered {role} with {status}"
