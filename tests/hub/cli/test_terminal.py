"""On a terminal: tables are aligned, long work shows progress, and Ctrl-C ends without a traceback."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hub.cli.conftest import FakeHub, Flaghoist, Signers

SCRIPT = Path(sys.executable).with_name("flaghoist")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ID = "kiosk-7-3f2a9c1b5d4e"
RELEASE = {"id": ID, "role": "kiosk", "state": "complete", "version": "1.0.0"}
PROGRESS = {
    "id": ID,
    "state": "complete",
    "reason": "",
    "segments": [{"segment": "canary", "expected": 3, "committed": 3, "share_basis_points": 10_000}],
}


def on_terminal(*args: object) -> tuple[int, str]:
    """Run the installed command with a terminal of 120 columns for its output; return exit code and what it drew."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 120))
    environment = os.environ | {"TERM": "xterm"}
    environment.pop("COLUMNS", None)
    with subprocess.Popen(
        [SCRIPT, *map(str, args)], stdin=slave, stdout=slave, stderr=slave, env=environment
    ) as process:
        os.close(slave)
        drawn = b""
        try:
            while chunk := os.read(master, 65_536):
                drawn += chunk
        except OSError:
            pass  # Linux answers EIO once the last writer has closed
        os.close(master)
        return process.wait(30), drawn.decode()


def plain(drawn: str) -> str:
    return ESCAPE.sub("", drawn).replace("\r\n", "\n")


def test_tables_are_aligned(hub: FakeHub) -> None:
    hub.on(
        "GET /releases", (200, {"items": [RELEASE, RELEASE | {"version": "1.0.0-beta"}], "next_cursor": None})
    )
    code, drawn = on_terminal("release", "list")
    assert code == 0
    heading, first, second = plain(drawn).splitlines()
    assert heading.index("state") == first.index("complete") == second.index("complete")
    assert "\t" not in drawn


def test_an_upload_shows_its_progress_and_then_the_release(
    flaghoist: Flaghoist, signers: Signers, built: Path, hub: FakeHub
) -> None:
    flaghoist("release", "sign", built, "--key", signers.key("one"))
    hub.on("POST /releases", (201, RELEASE | {"state": "draft"}))
    hub.on(f"POST /artifacts/kiosk/{built.name}", (201, {}))
    hub.on(f"GET /artifacts/kiosk/{built.name}/bundle", (304, b""))
    hub.on(f"GET /releases/{built.name}", (200, RELEASE | {"state": "published"}))
    code, drawn = on_terminal("release", "publish", built)
    assert code == 0
    assert f"uploading {built.name}" in plain(drawn)
    assert "state    published" in plain(drawn)
    assert hub.requests[1].body == (built / "bundle.tar.gz").read_bytes()


def test_a_watch_draws_every_segment(hub: FakeHub) -> None:
    hub.on(f"GET /releases/{ID}/progress", (200, PROGRESS))
    code, drawn = on_terminal("rollout", "watch", ID)
    assert code == 0
    text = plain(drawn)
    assert f"{ID}  complete" in text
    assert re.search(r"canary +100% +3 +3 +0 +0 +0 +0 +0", text)


def test_no_color_is_obeyed(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    hub.on("GET /releases", (200, {"items": [RELEASE], "next_cursor": None}))
    _, drawn = on_terminal("release", "list")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", drawn)


def test_a_remark_is_for_people_only(flaghoist: Flaghoist, hub: FakeHub) -> None:
    hub.on("POST /devices/enrolment-tokens", (201, {"token": "fh1.abc", "expires_at": "soon"}))
    args = ("device", "token", "--role", "kiosk", "--segment", "canary")
    assert plain(on_terminal(*args)[1]) == "fh1.abc\nfor 1 device, until soon\n"
    assert flaghoist(*args).err == ""


@pytest.fixture
def watching(hub: FakeHub) -> Callable[[], subprocess.Popen[str]]:
    hub.on(f"GET /releases/{ID}/progress", (200, PROGRESS | {"state": "rolling"}))
    return lambda: subprocess.Popen(
        [SCRIPT, "rollout", "watch", ID], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_ctrl_c_ends_a_watch_with_130_and_no_traceback(watching: Callable[[], subprocess.Popen[str]]) -> None:
    with watching() as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(f"{ID}; rolling")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read().strip() == ""
