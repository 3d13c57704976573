"""The commands that talk to the hub: what they ask it, what they print, and how each failure ends."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.cli.conftest import Answer, FakeHub, Flaghoist, Signers

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


def test_a_release_is_declared_then_uploaded_then_shown(
    flaghoist: Flaghoist, signers: Signers, built: Path, hub: FakeHub
) -> None:
    flaghoist("release", "sign", built, "--key", signers.key("one"))
    name = built.name
    hub.on("POST /releases", (201, RELEASE | {"id": name, "state": "draft"}))
    hub.on(f"POST /artifacts/kiosk/{name}", (201, {"release": name}))
    hub.on(f"GET /releases/{name}", (200, RELEASE | {"id": name, "state": "published"}))
    ran = flaghoist("release", "publish", built, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.json["state"] == "published"
    assert hub.asked() == ["POST /releases", f"POST /artifacts/kiosk/{name}", f"GET /releases/{name}"]
    declared, uploaded = hub.requests[0], hub.requests[1]
    assert base64.b64decode(declared.json["envelope"]) == (built / "release.dsse").read_bytes()
    assert declared.json["policy"] == {"failure": {"max_ratio": 0.2}}
    assert uploaded.body == (built / "bundle.tar.gz").read_bytes()
    assert {request.headers["Authorization"] for request in hub.requests} == {"Bearer letmein"}


def test_publishing_again_after_it_was_done_uploads_nothing(
    flaghoist: Flaghoist, signers: Signers, built: Path, hub: FakeHub
) -> None:
    flaghoist("release", "sign", built, "--key", signers.key("one"))
    hub.on("POST /releases", (201, RELEASE | {"id": built.name, "state": "rolling"}))
    ran = flaghoist("release", "publish", built, "--json")
    assert (ran.code, ran.json["state"], hub.asked()) == (0, "rolling", ["POST /releases"])


def test_another_policy_can_be_given(
    flaghoist: Flaghoist, signers: Signers, built: Path, hub: FakeHub, tmp_path: Path
) -> None:
    flaghoist("release", "sign", built, "--key", signers.key("one"))
    policy = tmp_path / "night.json"
    policy.write_text('{"spread_seconds": 600}')
    hub.on("POST /releases", (201, RELEASE))
    assert flaghoist("release", "publish", built, "--policy", policy).code == 0
    assert hub.requests[0].json["policy"] == {"spread_seconds": 600}
    policy.write_text("[1]")
    ran = flaghoist("release", "publish", built, "--policy", policy)
    assert (ran.code, ran.err) == (
        1,
        f"flaghoist: {policy} is not a JSON object; docs/bundle.md shows a rollout policy\n",
    )


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
            {"targetSegment": "general", "rolloutPercentage": 100.0},
            id="promote-all",
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
DEVICE_COMMANDS = (("device", "show"),)


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


def test_text_from_elsewhere_cannot_steer_the_terminal(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on(f"GET /releases/{ID}", (200, RELEASE | {"reason": "\x1b[2Jgone\nfake line\t[bold]x"}))
    ran = flaghoist("release", "show", ID)
    assert "\x1b" not in ran.out
    assert "reason\t [2Jgone fake line [bold]x\n" in ran.out


PROBLEM = {"title": "Conflict", "status": 409, "detail": "canary has no success yet.", "rule": "gate"}


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        pytest.param((409, PROBLEM), 1, "the hub refused: canary has no success yet (rule gate)", id="rule"),
        pytest.param((404, {"title": "Not found", "detail": "There is no release x."}), 1,
                     "the hub refused: There is no release x", id="not-found"),
        pytest.param((422, {"title": "Invalid content"}), 1, "the hub refused: Invalid content", id="title-only"),
        pytest.param((500, {"title": "Internal error", "detail": "The hub failed on this request."}), 1,
                     "the hub failed: The hub failed on this request", id="bug-of-the-hub"),
        pytest.param((401, {"title": "Unauthorised", "detail": "The token is not known."}), 1,
                     "the hub at {url} does not accept this token; set FLAGHOIST_TOKEN or --token-file to the text "
                     "of the hub's admin.token", id="unauthorised"),
        pytest.param((403, {"title": "Forbidden", "detail": "This needs the role operator.", "rule": "role"}), 1,
                     "the hub refused: This needs the role operator (rule role)", id="forbidden"),
        pytest.param((503, {"title": "Service unavailable", "detail": "The database is busy; try again."}), 4,
                     "the hub at {url} is not ready (The database is busy; try again); ask its /health/ready, "
                     "and try again", id="not-ready"),
        pytest.param((502, b"<html>bad gateway</html>"), 4,
                     "the hub at {url} is not ready (502); ask its /health/ready, and try again", id="proxy"),
        pytest.param((404, b"<html>nginx</html>"), 4,
                     "{url} answers with status 404 and no reason, so it is not a hub that this command knows; "
                     "check the address", id="another-web-server"),
        pytest.param((200, b"<html>hello</html>"), 4,
                     "{url} answers with something else, so it is not a hub that this command knows; "
                     "check the address", id="another-web-server-that-is-glad"),
        pytest.param((200, b"\xff\xfe"), 4,
                     "{url} answers with something else, so it is not a hub that this command knows; "
                     "check the address", id="not-text"),
        pytest.param((307, b""), 4,
                     "{url} redirects to nowhere; give that address as the hub's", id="redirect"),
    ],
)  # fmt: skip
def test_what_the_hub_refuses_is_one_sentence(
    flaghoist: Flaghoist, hub: FakeHub, answer: Answer, code: int, message: str
) -> None:
    hub.on(f"GET /releases/{ID}", answer)
    ran = flaghoist("release", "show", ID)
    assert (ran.code, ran.out, ran.err) == (code, "", f"flaghoist: {message.format(url=hub.url)}\n")


@pytest.fixture
def deaf() -> Iterator[Callable[[bool], str]]:
    """Addresses where nothing listens, and where something listens and hangs up."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]

    def address(listens: bool) -> str:
        if not listens:
            server.close()
        return f"http://127.0.0.1:{port}"

    yield address
    server.close()


def test_a_hub_that_is_not_there_ends_with_4(
    flaghoist: Flaghoist, monkeypatch: pytest.MonkeyPatch, deaf: Callable[[bool], str]
) -> None:
    url = deaf(False)
    monkeypatch.setenv("FLAGHOIST_TOKEN", "x")
    ran = flaghoist("device", "list", "--url", url)
    assert (ran.code, ran.err) == (
        4,
        f"flaghoist: cannot reach the hub at {url} (Connection refused); "
        "check the address and that flaghoist-hub is running\n",
    )


def test_a_hub_that_does_not_answer_ends_with_4(
    flaghoist: Flaghoist, monkeypatch: pytest.MonkeyPatch, deaf: Callable[[bool], str]
) -> None:
    url = deaf(True)
    monkeypatch.setenv("FLAGHOIST_TOKEN", "x")
    monkeypatch.setattr("hub.cli.api.TIMEOUT", 0.05)
    ran = flaghoist("device", "list", "--url", url)
    assert (ran.code, ran.err) == (
        4,
        f"flaghoist: the hub at {url} did not answer in time; try again, and look at its log if it stays so\n",
    )


@pytest.mark.parametrize(
    ("environment", "args", "code", "message"),
    [
        pytest.param(
            {}, [], 2,
            "no hub is named; set FLAGHOIST_URL or give --url (see `flaghoist device list --help`)",
            id="no-url",
        ),
        pytest.param(
            {"FLAGHOIST_URL": "hub.example", "FLAGHOIST_TOKEN": "x"}, [], 2,
            "'hub.example' is not the address of a hub; it looks like http://hub.example:8080 "
            "(see `flaghoist device list --help`)",
            id="url-without-scheme",
        ),
        pytest.param(
            {"FLAGHOIST_URL": "http://h:port", "FLAGHOIST_TOKEN": "x"}, [], 2,
            "'http://h:port' is not the address of a hub; it looks like http://hub.example:8080 "
            "(see `flaghoist device list --help`)",
            id="url-malformed",
        ),
        pytest.param(
            {"FLAGHOIST_URL": "http://127.0.0.1:9"}, [], 2,
            "no token is given; set FLAGHOIST_TOKEN or give --token-file (see `flaghoist device list --help`)",
            id="no-token",
        ),
        pytest.param(
            {"FLAGHOIST_URL": "http://127.0.0.1:9", "FLAGHOIST_TOKEN": "a b"}, [], 2,
            "the token is not one word of plain text; give the text of the hub's admin.token "
            "(see `flaghoist device list --help`)",
            id="token-of-two-words",
        ),
        pytest.param(
            {"FLAGHOIST_URL": "http://127.0.0.1:9"}, ["--token-file", "/nowhere/admin.token"], 3,
            "/nowhere/admin.token does not exist; give the path of a token file",
            id="no-token-file",
        ),
        pytest.param(
            {}, ["--segment", "beta"], 2,
            "Invalid value for '--segment': 'beta' is not one of 'canary', 'early', 'general' "
            "(see `flaghoist device list --help`)",
            id="unknown-segment",
        ),
    ],
)  # fmt: skip
def test_a_connection_that_is_not_described_is_a_usage_error(
    flaghoist: Flaghoist, monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str], args: list[str], code: int, message: str,
) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ran = flaghoist("device", "list", *args)
    assert (ran.code, ran.out, ran.err) == (code, "", f"flaghoist: {message}\n")


def test_certificates_that_cannot_be_read_are_named(
    flaghoist: Flaghoist, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    ran = flaghoist("device", "list")
    assert (ran.code, ran.err) == (
        3,
        "flaghoist: cannot read the certificates that SSL_CERT_FILE or SSL_CERT_DIR names "
        "(No such file or directory); give a PEM file of the hub's CA\n",
    )


def test_the_token_may_come_from_a_file(flaghoist: Flaghoist, hub: FakeHub, tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    path.write_text("from-a-file\n")
    hub.on("GET /devices", (200, {"items": [], "next_cursor": None}))
    assert flaghoist("device", "list", "--token-file", path).code == 0
    assert hub.requests[0].headers["Authorization"] == "Bearer from-a-file"


def test_a_fault_of_the_command_shows_no_traceback_unless_asked(
    flaghoist: Flaghoist, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("hub.cli.promotions.share", break_)
    hub.on(f"GET /releases/{ID}", (200, RELEASE))
    monkeypatch.setattr("hub.cli.promotions.output.fields", break_)
    ran = flaghoist("release", "show", ID)
    assert (ran.code, ran.err) == (
        1,
        "flaghoist: stopped by a fault of its own (ZeroDivisionError: oh); "
        "run it again with FLAGHOIST_DEBUG=1 and report what that prints\n",
    )
    monkeypatch.setenv("FLAGHOIST_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        flaghoist("release", "show", ID)


def test_the_installed_command_says_nothing_when_its_reader_goes(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("flaghoist")
    made = subprocess.run(
        [script, "keys", "generate", "ci", "--out", tmp_path], capture_output=True, check=True
    )
    assert b"keyid" in made.stdout
    with subprocess.Popen(
        [script, "keys", "show", tmp_path / "ci.pub"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as shown:
        assert shown.stdout is not None
        assert shown.stderr is not None
        shown.stdout.close()
        assert shown.stderr.read() == b""
    wrong = subprocess.run([script, "keys", "show", tmp_path / "none"], capture_output=True, text=True)
    assert wrong.returncode == 3
    assert json.dumps(wrong.stderr).count("flaghoist: ") == 1
