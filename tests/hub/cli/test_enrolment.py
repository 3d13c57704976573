"""`flaghoist device tokens`, `revoke-token`, `allow-reenrol`: what the hub is asked, and what is shown."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hub.cli.conftest import FakeHub, Flaghoist

TOKENS = "/devices/enrolment-tokens"
TOKEN: dict[str, Any] = {
    "id": "0a1b",
    "role": "kiosk",
    "segment": "canary",
    "state": "open",
    "uses": 9,
    "uses_left": 3,
    "expires_at": "2026-11-26T10:00:00.000Z",
    "created_by": "admin",
}


def test_tokens_are_a_table_for_people_and_a_list_for_programs(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on(f"GET {TOKENS}", (200, {"items": [TOKEN], "next_cursor": None}))
    ran = flaghoist("device", "tokens")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[1] == "0a1b\tkiosk\tcanary\topen\t3\t9\t2026-11-26T10:00:00Z\tadmin"
    assert flaghoist("device", "tokens", "--json").json == [TOKEN]


def test_a_token_is_withdrawn_by_its_id(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on(f"DELETE {TOKENS}/0a1b", (204, None))
    ran = flaghoist("device", "revoke-token", "0a1b")
    assert (ran.code, ran.out, ran.err) == (0, "0a1b revoked\n", "")
    assert flaghoist("device", "revoke-token", "0a1b", "--json").json == {"id": "0a1b", "revoked": True}


@pytest.mark.parametrize(("options", "allowed"), [([], True), (["--withdraw"], False)])
def test_another_key_is_let_in_once_whatever_else_is_changed_meanwhile(
    flaghoist: Flaghoist, hub: FakeHub, options: list[str], allowed: bool
) -> None:
    device = {"device_id": "shop-12", "rekey_allowed": allowed}
    hub.on("PATCH /devices/shop-12", (200, device))
    ran = flaghoist("device", "allow-reenrol", "shop-12", *options, "--json")
    assert (ran.code, ran.json) == (0, device)
    (asked,) = hub.requests
    assert asked.json == {"rekey_allowed": allowed} and asked.headers["If-Match"] == "*"
