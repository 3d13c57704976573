"""What the operator reads when the hub refuses, is not there, or is none."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hub.cli.conftest import Answer, FakeHub, Flaghoist
from tests.hub.cli.test_hub_commands import ID, RELEASE

PROBLEM = {"title": "Conflict", "status": 409, "detail": "canary has no success yet.", "rule": "gate"}


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        pytest.param((409, PROBLEM), 1, "the hub refused: canary has no success yet (rule gate)", id="rule"),
        pytest.param((404, {"title": "Not found", "detail": "There is no release x."}), 1,
                     "the hub refused: There is no release x", id="not-found"),
        pytest.param((422, {"title": "Invalid content"}), 1, "the hub refused: Invalid content", id="title-only"),
        pytest.param((400, {"title": "Bad Request", "detail": "Validation failed for POST /x",
                            "errors": [{"message": "Expected `int` <= 9", "key": "uses", "source": "body"},
                                       {"message": "Another", "key": "role"}]}), 1,
                     "the hub refused: Validation failed for POST /x: uses: Expected `int` <= 9", id="validation"),
        pytest.param((400, {"title": "Bad Request", "detail": "It failed.", "errors": [{"message": "No body."}]}), 1,
                     "the hub refused: It failed: No body", id="validation-without-key"),
        pytest.param((400, {"detail": "It failed.", "errors": {"a": 1}}), 1, "the hub refused: It failed",
                     id="errors-of-another-form"),
        pytest.param((400, {"detail": "It failed.", "errors": ["a", 1]}), 1, "the hub refused: It failed",
                     id="errors-that-are-no-objects"),
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
        *(
            pytest.param(
                {"FLAGHOIST_URL": url, "FLAGHOIST_TOKEN": "x"}, [], 2,
                f"{url!r} is not the address of a hub; it looks like http://hub.example:8080 "
                "(see `flaghoist device list --help`)",
                id=f"url-{name}",
            )
            for name, url in {
                "bytes": "\udcff", "host-of-bytes": "http://h\udcff", "path-of-bytes": "http://h/\udcff",
                "empty-label": "http://a..b", "long-label": f"http://{'x' * 64}", "no-host": "http://",
                "space": "http:// h", "control": "http://h/\x01", "password": "http://u:p@h",
                "query": "http://h?x=1", "fragment": "http://h/#x", "another-scheme": "ftp://h",
            }.items()
        ),
        pytest.param(
            {"FLAGHOIST_URL": "http://127.0.0.1:9", "FLAGHOIST_TOKEN": "\udcff"}, [], 2,
            "the token is not one word of plain text; give the text of the hub's admin.token "
            "(see `flaghoist device list --help`)",
            id="token-of-bytes",
        ),
        *(
            pytest.param(
                {"FLAGHOIST_URL": "http://127.0.0.1:9", "FLAGHOIST_TOKEN": "x", "HTTP_PROXY": proxy}, [], 3,
                "cannot use the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names; "
                "give one like http://proxy.example:3128, or name the hub in NO_PROXY",
                id=f"proxy-{name}",
            )
            for name, proxy in {"bytes": "\udcff", "socks": "socks5://x:1", "scheme": "ftp://x:1"}.items()
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
            {"FLAGHOIST_URL": "http://127.0.0.1:9"}, ["--token-file", "/"], 3,
            "/ is a folder; give the path of a token file",
            id="token-file-is-a-folder",
        ),
        pytest.param(
            {"FLAGHOIST_URL": "http://127.0.0.1:9"}, ["--token-file", "/dev/null"], 3,
            "/dev/null does not hold a token; give the path of the hub's admin.token",
            id="empty-token-file",
        ),
        pytest.param(
            {"FLAGHOIST_URL": "http://127.0.0.1:9"}, ["--token-file", "/dev/zero"], 3,
            "/dev/zero is larger than 8192 bytes, so it is not a token file; check the path",
            id="endless-token-file",
        ),
        pytest.param(
            {"FLAGHOIST_URL": "http://127.0.0.1:9"}, ["--token-file", ""], 2,
            "Invalid value for '--token-file': an empty text is not a path; write . for the present folder "
            "(see `flaghoist device list --help`)",
            id="empty-path",
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


def test_an_address_from_a_file_may_end_in_a_newline(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on("GET /devices", (200, {"items": [], "next_cursor": None}))
    assert flaghoist("device", "list", "--url", f" {hub.url}/\n").code == 0


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
        [script, "keys", "generate", "ci", "--no-passphrase", "--out", tmp_path],
        capture_output=True,
        check=True,
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
