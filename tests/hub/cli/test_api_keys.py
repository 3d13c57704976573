"""`flaghoist api-key`: what the hub is asked, and what people see."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hub.access.keys import KeyRequest
from tests.hub.cli.conftest import FakeHub, Flaghoist

MADE: dict[str, Any] = {
    "id": "0a1b2c3d4e5f",
    "name": "prometheus",
    "role": "viewer",
    "expires_at": "2027-02-23T10:00:00.000Z",
}


def test_a_new_key_is_the_only_thing_on_standard_output(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on("POST /api-keys", (201, MADE | {"key": "fhkey_secret"}))
    ran = flaghoist("api-key", "create", "prometheus", "--days", "30")
    assert (ran.code, ran.out, ran.err) == (0, "fhkey_secret\n", "")
    body = hub.requests[0].json
    assert body == {"name": "prometheus", "role": "viewer", "expires_in": 30 * 86_400}
    msgspec.convert(body, KeyRequest)
    assert flaghoist("api-key", "create", "prometheus", "--json").json["key"] == "fhkey_secret"


def test_keys_are_listed_without_their_texts(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on("GET /api-keys", (200, {"items": [MADE]}))
    ran = flaghoist("api-key", "list")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[1].split("\t") == [
        "0a1b2c3d4e5f", "prometheus", "viewer", "-", "-", "2027-02-23T10:00:00Z",
    ]  # fmt: skip
    assert flaghoist("api-key", "list", "--json").json == [MADE]


def test_a_key_is_revoked_by_its_id(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on("DELETE /api-keys/0a1b2c3d4e5f", (204, None))
    ran = flaghoist("api-key", "revoke", "0a1b2c3d4e5f")
    assert (ran.code, ran.out, ran.err) == (0, "0a1b2c3d4e5f revoked\n", "")
    assert flaghoist("api-key", "revoke", "0a1b2c3d4e5f", "--json").json["revoked"] is True


def test_the_hubs_reason_not_to_revoke_is_told(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on(
        "DELETE /api-keys/admin", (409, {"detail": "The first key comes from a file.", "rule": "first_key"})
    )
    ran = flaghoist("api-key", "revoke", "admin")
    assert (ran.code, ran.out) == (1, "")
    assert "The first key comes from a file (rule first_key)" in ran.err


@pytest.mark.parametrize("days", ["0", "731", "soon"])
def test_a_life_that_makes_no_sense_is_wrong_usage(flaghoist: Flaghoist, hub: FakeHub, days: str) -> None:
    assert flaghoist("api-key", "create", "ci", "--days", days).code == 2
    assert hub.requests == []
