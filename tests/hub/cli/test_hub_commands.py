"""The commands that talk to the hub: what they ask it, what they print, and how each failure ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.registry.rules import TokenRequest
from tests.hub.cli.conftest import FakeHub, Flaghoist, Signers

RELEASE: dict[str, Any] = {
    "id": "kiosk-7-3f2a9c1b5d4e",
    "role": "kiosk",
    "sequence": 7,
    "version": "1.2.0",
    "commit": "3f" * 20,
    "state": "rolling",
    "segment": "canary",
    "basis_points": 2500,
    "paused": False,
    "reason": "",
    "created_at": "2026-03-01T10:00:00Z",
    "updated_at": "2026-03-01T10:05:00.123Z",
}
ID = RELEASE["id"]
DEVICE = {
    "device_id": "shop-12",
    "role": "kiosk",
    "segment": "canary",
    "presence": "online",
    "health": "ok",
    "running": ID,
    "state": "committed",
    "last_seen": "2026-03-01T10:05:00.123Z",
    "tags": {"site": "harbour"},
    "verdict": {"reason": "already_installed", "release": None},
}


def test_a_root_is_published_as_its_very_bytes(
    flaghoist: Flaghoist, signers: Signers, hub: FakeHub, tmp_path: Path
) -> None:
    root = tmp_path / "root.1.dsse"
    flaghoist(
        "root", "init", "--fleet", "acme", "--root-key", signers.key("root"), "--release-key", signers.pub("one"),
        "--deployment-key", signers.pub("hub"), "--out", root,
    )  # fmt: skip
    hub.on("POST /trust/roots", (201, {"version": 1}))
    assert flaghoist("root", "publish", root).code == 0
    assert hub.requests[0].body == root.read_bytes()
    assert hub.requests[0].headers["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("args", "request_", "body"),
    [
        pytest.param(
            ["promote", ID, "--segment", "canary", "--percentage", "2.5"],
            f"POST /releases/{ID}/promote",
            {"targetSegment": "canary", "rolloutPercentage": 2.5},
            id="promote",
        ),
        pytest.param(
            ["promote", ID, "--segment", "general"],
            f"POST /releases/{ID}/promote",
            {"targetSegment": "general"},
            id="promote-all",
        ),
        pytest.param(
            ["promote", ID, "--segment", "early", "--not-before", "2026-11-26T02:00:00+01:00"],
            f"POST /releases/{ID}/promote",
            {"targetSegment": "early", "not_before": "2026-11-26T01:00:00.000Z"},
            id="promote at a time",
        ),
        pytest.param(
            ["promote", ID, "--segment", "early", "--override", "--reason", "no canaries"],
            f"POST /releases/{ID}/promote",
            {"targetSegment": "early", "override": True, "reason": "no canaries"},
            id="promote past the gate",
        ),
        pytest.param(
            ["pause", ID, "--reason", "hot"], f"POST /releases/{ID}/pause", {"reason": "hot"}, id="pause"
        ),
        pytest.param(["resume", ID], f"POST /releases/{ID}/resume", {"reason": ""}, id="resume"),
        pytest.param(
            ["rollback", ID, "--reason", "bad"],
            f"POST /releases/{ID}/rollback",
            {"reason": "bad"},
            id="rollback",
        ),
        pytest.param(["show", ID], f"GET /releases/{ID}", None, id="show"),
    ],
)
def test_orders_ask_the_hub_and_show_its_answer(
    flaghoist: Flaghoist, hub: FakeHub, args: list[str], request_: str, body: object
) -> None:
    hub.on(request_, (201 if body else 200, RELEASE))
    ran = flaghoist("release", *args)
    assert (ran.code, ran.err) == (0, "")
    assert hub.asked() == [request_]
    assert body is None or hub.requests[0].json == body
    assert f"release\t{ID}\n" in ran.out
    assert "share\t25%\n" in ran.out
    assert flaghoist("release", *args, "--json").json == RELEASE


RELEASE_COMMANDS = (
    ("release", "show"),
    ("release", "promote", "--segment", "canary"),
    ("release", "pause"),
    ("release", "resume"),
    ("release", "rollback"),
    ("rollout", "watch"),
)
DEVICE_COMMANDS = (
    ("device", "show"),
    ("device", "set", "--no-maintenance"),
    ("device", "revoke"),
    ("device", "delete", "--yes"),
)


@pytest.mark.parametrize("command", RELEASE_COMMANDS + DEVICE_COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    "bad", ["", ".", "..", "../devices", "a/b", "Shop-1", "shop?x=1", "a b", "shop\n", "svc.hub", "x" * 97]
)
def test_an_id_that_cannot_be_one_is_wrong_usage_and_never_asked_for(
    flaghoist: Flaghoist, hub: FakeHub, command: tuple[str, ...], bad: str
) -> None:
    ran = flaghoist(*command, bad)
    what = "device" if command in DEVICE_COMMANDS else "release"
    assert (ran.code, ran.out, hub.asked()) == (2, "", [])
    assert ran.err.startswith(f"flaghoist: Invalid value for 'ID': {bad!r} is not a {what} id; ")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        ("release", "list"),
        ("device", "list"),
        ("device", "token", "--segment", "canary"),
        ("release", "build", "--fleet", "acme"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("bad", ["", ".", "Kiosk", "x" * 33])
def test_a_role_that_cannot_be_one_is_wrong_usage(
    flaghoist: Flaghoist, hub: FakeHub, command: tuple[str, ...], bad: str
) -> None:
    ran = flaghoist(*command, "--role", bad)
    assert (ran.code, ran.out, hub.asked()) == (2, "", [])
    assert ran.err.startswith(f"flaghoist: Invalid value for '--role': {bad!r} is not a role; ")


def test_the_help_of_rollback_says_what_a_role_without_a_stable_release_does(flaghoist: Flaghoist) -> None:
    words = " ".join(flaghoist("release", "rollback", "--help").out.split())
    assert "devices that took it return to the role's stable release before it" in words
    assert "Where there is none, as with a role's first release, they keep what they run" in words


@pytest.mark.parametrize(("rule", "code"), [(None, 0), ("segment_order", 1)])
def test_a_dry_run_tells_who_would_move_and_ends_as_the_promotion_would(
    flaghoist: Flaghoist, hub: FakeHub, rule: str | None, code: int
) -> None:
    preview = {
        "dry_run": True,
        "refused_by": rule,
        "detail": "canary is next" if rule else "",
        "devices": 3,
        "by_reason": {"eligible": 2, "maintenance": 1},
        "would_move": ["shop-1", "shop-2"],
        "more": 0,
    }
    hub.on(f"POST /releases/{ID}/promote?dry_run=true", (200, preview))
    ran = flaghoist("release", "promote", ID, "--segment", "canary", "--dry-run")
    assert (ran.code, ran.err) == (code, "")
    assert "maintenance\t1\n" in ran.out and "would move: shop-1 shop-2\n" in ran.out
    assert ("refused now: canary is next (rule segment_order)" in ran.out) is bool(rule)


@pytest.mark.parametrize("percentage", ["0", "-1", "100.1", "nan", "inf"])
def test_a_percentage_that_is_no_share_is_a_usage_error(
    flaghoist: Flaghoist, hub: FakeHub, percentage: str
) -> None:
    ran = flaghoist("release", "promote", ID, "--segment", "canary", "--percentage", percentage)
    assert ran.code == 2
    assert ran.err == (
        f"flaghoist: --percentage {percentage} is not a share; give a number above 0, up to 100 "
        "(see `flaghoist release promote --help`)\n"
    )
    assert hub.asked() == []


def test_lists_follow_every_page_and_are_tab_separated_in_a_pipe(flaghoist: Flaghoist, hub: FakeHub) -> None:
    second = DEVICE | {"device_id": "shop-13", "running": None, "last_seen": None}
    hub.on("GET /devices?role=kiosk&segment=canary", (200, {"items": [DEVICE], "next_cursor": "shop-12"}))
    hub.on(
        "GET /devices?role=kiosk&segment=canary&cursor=shop-12",
        (200, {"items": [second], "next_cursor": None}),
    )
    ran = flaghoist("device", "list", "--role", "kiosk", "--segment", "canary")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "device\trole\tsegment\tpresence\thealth\trunning\tstate\tlast seen\n"
        f"shop-12\tkiosk\tcanary\tonline\tok\t{ID}\tcommitted\t2026-03-01T10:05:00Z\n"
        "shop-13\tkiosk\tcanary\tonline\tok\t-\tcommitted\t-\n"
    )
    as_json = flaghoist("device", "list", "--role", "kiosk", "--segment", "canary", "--json")
    assert as_json.json == [DEVICE, second]


def test_releases_are_listed(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on("GET /releases", (200, {"items": [RELEASE], "next_cursor": None}))
    ran = flaghoist("release", "list")
    assert ran.out.splitlines()[1] == f"{ID}\t1.2.0\trolling\tcanary\t25%\t2026-03-01T10:05:00Z"


def test_a_device_is_shown_with_everything_the_hub_says(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on("GET /devices/shop-12", (200, DEVICE))
    ran = flaghoist("device", "show", "shop-12")
    assert "device_id\tshop-12\n" in ran.out
    assert "tags\tsite harbour\n" in ran.out
    assert "verdict\treason already_installed\n" in ran.out


def test_an_enrolment_token_is_printed_alone(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on(
        "POST /devices/enrolment-tokens",
        (201, {"id": "0" * 32, "token": "fh1.abc", "expires_at": "2026-03-02T10:00:00Z"}),
    )
    ran = flaghoist("device", "token", "--role", "kiosk", "--segment", "canary", "--uses", 3)
    assert (ran.code, ran.out, ran.err) == (0, "fh1.abc\n", "")
    assert hub.requests[0].json == {"role": "kiosk", "segment": "canary", "uses": 3, "expires_in": 86_400}


@pytest.mark.parametrize(
    ("seconds", "good"),
    [(59, False), (60, True), (90 * 86_400, True), (90 * 86_400 + 1, False), (365 * 86_400, False)],
)
def test_a_token_lives_as_long_as_the_hub_allows_and_the_range_is_named(
    flaghoist: Flaghoist, hub: FakeHub, seconds: int, good: bool
) -> None:
    hub.on("POST /devices/enrolment-tokens", (201, {"token": "fh1.abc", "expires_at": "soon"}))
    ran = flaghoist("device", "token", "--role", "kiosk", "--segment", "canary", "--expires-in", seconds)
    # The hub's own rule, so that the two cannot drift apart.
    asked = {"role": "kiosk", "expires_in": seconds}
    if good:
        msgspec.convert(asked, TokenRequest)
        assert (ran.code, ran.err) == (0, "")
        return
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(asked, TokenRequest)
    assert (ran.code, hub.asked()) == (2, [])
    assert ran.err == (
        f"flaghoist: Invalid value for '--expires-in': {seconds} is not in the range 60<=x<=7776000 "
        "(see `flaghoist device token --help`)\n"
    )


def test_text_from_elsewhere_cannot_steer_the_terminal(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on(f"GET /releases/{ID}", (200, RELEASE | {"reason": "\x1b[2Jgone\nfake line\t[bold]x"}))
    ran = flaghoist("release", "show", ID)
    assert "\x1b" not in ran.out
    assert "reason\t [2Jgone fake line [bold]x\n" in ran.out


def test_a_release_is_shown_with_its_stages_and_what_is_scheduled(flaghoist: Flaghoist, hub: FakeHub) -> None:
    stages = [
        {"segment": "canary", "started_at": "2026-03-01T10:00:00.000Z", "started_by": "ada", "start_reason": "",
         "finished_at": "2026-03-01T11:00:00.000Z", "finish_reason": "promoted to early"},
        {"segment": "early", "started_at": "2026-03-01T11:00:00.000Z", "started_by": "rule:gate",
         "start_reason": "passed the gate of canary", "finished_at": None, "finish_reason": ""},
    ]  # fmt: skip
    due = {
        "segment": "general",
        "basis_points": 1250,
        "not_before": "2026-03-02T01:00:00.000Z",
        "actor": "ada",
    }
    hub.on(f"GET /releases/{ID}", (200, {**RELEASE, "stages": stages, "scheduled": due}))
    lines = flaghoist("release", "show", ID).out.splitlines()
    assert "scheduled\t12.5% of general not before 2026-03-02T01:00:00Z" in lines
    assert lines[-2:] == [
        "canary: from 2026-03-01T10:00:00Z by ada, to 2026-03-01T11:00:00Z (promoted to early)",
        "early: from 2026-03-01T11:00:00Z by rule:gate (passed the gate of canary)",
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param(
            ["--override"],
            "--override needs to say why; give --reason",
            id="a gate passed over for no reason",
        ),
        pytest.param(["--not-before", "2026-11-26T02:00:00"], "is not a time with its zone", id="no zone"),
        pytest.param(["--not-before", "soon"], "is not a time with its zone", id="no time"),
    ],
)
def test_a_promotion_that_cannot_be_meant_is_wrong_usage(
    flaghoist: Flaghoist, hub: FakeHub, options: list[str], sentence: str
) -> None:
    ran = flaghoist("release", "promote", ID, "--segment", "early", *options)
    assert ran.code == 2 and sentence in ran.err and not hub.requests
