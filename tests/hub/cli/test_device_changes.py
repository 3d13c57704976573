"""`flaghoist device set`, `revoke`, `delete`: what the hub is asked, and what it then holds."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hub.registry.rules import DevicePatch
from tests.hub.cli.conftest import Answer, FakeHub, Flaghoist
from tests.hub.world import World

PATH = "/devices/shop-12"
DEVICE: dict[str, Any] = {"device_id": "shop-12", "role": "kiosk", "tags": {"site": "harbour", "floor": "2"}}
CHANGED_MEANWHILE: Answer = (
    412,
    {"detail": "shop-12 was changed by somebody else; read it again.", "rule": "if_match"},
)


@pytest.mark.parametrize(
    ("options", "body"),
    [
        pytest.param(["--role", "till"], {"role": "till"}, id="role"),
        pytest.param(["--segment", "general"], {"segment": "general"}, id="segment"),
        pytest.param(["--lock", "kiosk-7-3f2a9c1b5d4e"], {"version_lock": "kiosk-7-3f2a9c1b5d4e"}, id="lock"),
        pytest.param(["--unlock"], {"version_lock": None}, id="unlock"),
        pytest.param(["--maintenance"], {"maintenance": True}, id="maintenance"),
        pytest.param(["--no-maintenance"], {"maintenance": False}, id="no-maintenance"),
        pytest.param(["--interval", "60"], {"update_interval": 60}, id="interval"),
        pytest.param(["--allow-rekey"], {"rekey_allowed": True}, id="allow-rekey"),
        pytest.param(["--tag", "site=hill"], {"tags": {"site": "hill", "floor": "2"}}, id="tag-changed"),
        pytest.param(["--tag", "a=b=c", "--tag", "site="], {"tags": {"floor": "2", "a": "b=c"}}, id="tags-merged"),
        pytest.param(["--role", "till", "--unlock", "--interval", "5"],
                     {"role": "till", "update_interval": 5, "version_lock": None}, id="several-at-once"),
    ],
)  # fmt: skip
def test_only_what_is_given_is_changed_and_only_in_the_device_as_it_was_read(
    flaghoist: Flaghoist, hub: FakeHub, options: list[str], body: dict[str, Any]
) -> None:
    hub.on(f"GET {PATH}", (200, DEVICE))
    hub.on(f"PATCH {PATH}", (200, DEVICE | {"segment": "general"}))
    ran = flaghoist("device", "set", "shop-12", *options)
    assert (ran.code, ran.err) == (0, "")
    assert hub.asked() == [f"GET {PATH}", f"PATCH {PATH}"]
    asked = hub.requests[1]
    assert asked.json == body
    assert asked.headers["If-Match"] == '"1"'
    assert "segment\tgeneral\n" in ran.out
    msgspec.convert(asked.json, DevicePatch)
    assert flaghoist("device", "set", "shop-12", *options, "--json").json == DEVICE | {"segment": "general"}


def test_a_change_meanwhile_is_read_and_tried_on_once_more(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on(f"GET {PATH}", (200, DEVICE), (200, DEVICE | {"tags": {"new": "yes"}}))
    hub.on(f"PATCH {PATH}", CHANGED_MEANWHILE, (200, DEVICE))
    ran = flaghoist("device", "set", "shop-12", "--tag", "site=hill")
    assert (ran.code, ran.err) == (0, "")
    assert hub.asked() == [f"GET {PATH}", f"PATCH {PATH}"] * 2
    assert hub.requests[3].json == {"tags": {"new": "yes", "site": "hill"}}
    assert hub.requests[3].headers["If-Match"] == '"3"'


def test_a_device_that_changes_all_the_time_is_left_as_it_is(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on(f"GET {PATH}", (200, DEVICE))
    hub.on(f"PATCH {PATH}", CHANGED_MEANWHILE)
    ran = flaghoist("device", "set", "shop-12", "--maintenance")
    assert len(hub.requests) == 4
    assert (ran.code, ran.out, ran.err) == (
        1,
        "",
        "flaghoist: the hub refused: shop-12 was changed by somebody else; read it again (rule if_match)\n",
    )


def test_another_refusal_is_not_tried_again(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on(f"GET {PATH}", (200, DEVICE))
    hub.on(f"PATCH {PATH}", (409, {"detail": "It is no release of its role.", "rule": "version_lock"}))
    ran = flaghoist("device", "set", "shop-12", "--lock", "kiosk-7-3f2a9c1b5d4e")
    assert (ran.code, len(hub.requests)) == (1, 2)
    assert ran.err == "flaghoist: the hub refused: It is no release of its role (rule version_lock)\n"


def test_nothing_is_changed_where_no_etag_guards_it(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.tagged = False
    hub.on(f"GET {PATH}", (200, DEVICE))
    ran = flaghoist("device", "set", "shop-12", "--maintenance")
    assert (ran.code, hub.asked()) == (4, [f"GET {PATH}"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(["set", "shop-12"], "nothing is to be changed; give an option like --segment", id="nothing"),
        pytest.param(["set", "shop-12", "--lock", "kiosk-7-3f2a9c1b5d4e", "--unlock"],
                     "--lock and --unlock contradict each other; give one of them", id="lock-and-unlock"),
        pytest.param(["set", "shop-12", "--tag", "site"], "--tag 'site' is not K=V; it looks like site=harbour",
                     id="tag-without-value"),
        pytest.param(["set", "shop-12", "--tag", "=x"], "--tag '=x' is not K=V; it looks like site=harbour",
                     id="tag-without-name"),
        pytest.param(["set", "shop-12", "--lock", "."],
                     "Invalid value for '--lock': '.' is not a release id; it looks like kiosk-7-3f2a9c1b5d4e",
                     id="lock-to-no-release"),
        pytest.param(["set", "shop-12", "--role", ""],
                     "Invalid value for '--role': '' is not a role; use 1 to 32 of a-z, 0-9 and '-', "
                     "starting with a letter", id="no-role"),
        pytest.param(["set", "shop-12", "--interval", "4"],
                     "Invalid value for '--interval': 4 is not in the range 5<=x<=604800", id="too-often"),
        pytest.param(["set", "shop-12", "--interval", "604801"],
                     "Invalid value for '--interval': 604801 is not in the range 5<=x<=604800", id="too-rarely"),
        pytest.param(["delete", "shop-12"], "deleting shop-12 cannot be undone; add --yes if it is meant",
                     id="delete-not-meant"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_wrong_usage_and_asks_nothing(
    flaghoist: Flaghoist, hub: FakeHub, args: list[str], message: str
) -> None:
    ran = flaghoist("device", *args)
    assert (ran.code, ran.out, hub.asked()) == (2, "", [])
    assert ran.err == f"flaghoist: {message} (see `flaghoist device {args[0]} --help`)\n"


def test_a_real_device_is_changed_locked_freed_and_its_tags_are_kept(
    flaghoist: Flaghoist, real: World
) -> None:
    release, device = real.publish(1), real.device("shop-12")
    options = [
        "--segment",
        "early",
        "--lock",
        release,
        "--maintenance",
        "--tag",
        "site=harbour",
        "--interval",
        "60",
    ]
    first = flaghoist("device", "set", device, *options, "--allow-rekey", "--json")
    assert first.code == 0, first.err
    asked = ("segment", "version_lock", "maintenance", "tags", "update_interval", "rekey_allowed")
    assert [first.json[name] for name in asked] == ["early", release, True, {"site": "harbour"}, 60, True]
    second = flaghoist("device", "set", device, "--unlock", "--no-maintenance", "--tag", "floor=2", "--json")
    assert [second.json[name] for name in asked] == [
        "early",
        None,
        False,
        {"floor": "2", "site": "harbour"},
        60,
        True,
    ]
    desired = real.desired(device)
    assert (desired.segment, desired.tags, desired.maintenance) == (
        "early",
        {"floor": "2", "site": "harbour"},
        False,
    )


def test_a_real_device_is_revoked_and_then_deleted(flaghoist: Flaghoist, real: World) -> None:
    device = real.device("shop-12")
    revoked = flaghoist("device", "revoke", device, "--json")
    assert (revoked.code, revoked.json["revoked"]) == (0, True)
    again = flaghoist("device", "revoke", device)
    assert (again.code, "revoked\tTrue\n" in again.out) == (0, True)
    assert real.client.get(f"/devices/{device}").status_code == 200
    deleted = flaghoist("device", "delete", device, "--yes")
    assert (deleted.code, deleted.out) == (0, "shop-12 deleted\n")
    gone = flaghoist("device", "delete", device, "--yes")
    assert (gone.code, gone.err) == (1, "flaghoist: the hub refused: There is no device shop-12\n")
    real.device("shop-13")
    assert flaghoist("device", "delete", "shop-13", "--yes", "--json").json == {
        "device_id": "shop-13",
        "deleted": True,
    }


@pytest.mark.parametrize(
    "words", [["set", "--maintenance"], ["revoke"], ["delete", "--yes"]], ids=lambda w: w[0]
)
def test_a_device_that_is_not_there_is_refused(flaghoist: Flaghoist, real: World, words: list[str]) -> None:
    ran = flaghoist("device", *words, "shop-99")
    assert (ran.code, ran.out, ran.err) == (1, "", "flaghoist: the hub refused: There is no device shop-99\n")


def test_a_real_hub_says_which_field_of_a_change_it_does_not_take(flaghoist: Flaghoist, real: World) -> None:
    device = real.device("shop-12")
    ran = flaghoist("device", "set", device, "--tag", f"site={'x' * 129}")
    assert ran.code == 1
    assert ran.err.startswith("flaghoist: the hub refused: Validation failed")
    assert "tags" in ran.err and "128" in ran.err
