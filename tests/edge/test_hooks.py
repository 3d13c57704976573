"""Running hooks: exit codes, reasons, time limits, and what they are told."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from edge.config import Paths
from edge.updating import hooks
from edge.updating.hooks import Hooks, Place, Result
from tests.edge.world import wait_until


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    places = Paths(tmp_path / "state", tmp_path / "hooks")
    places.make()
    places.hooks.mkdir()
    return places


def hook(paths: Paths, script: str) -> Path:
    path = paths.hooks / "mine"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return path


def call(paths: Paths, seconds: float = 10, **variables: str) -> Result:
    runner = Hooks(paths, device_id="shop-12", role="kiosk", variables=variables, seconds=seconds)
    return runner.call("activate", Place("kiosk-8-b", "mine", "kiosk-7-a"))


ENDINGS = [
    pytest.param("exit 0", True, False, "", id="ok"),
    pytest.param("echo busy >&2; exit 75", False, True, "busy", id="later"),
    pytest.param(
        "echo one >&2; echo two >&2; echo >&2; exit 3", False, False, "two", id="last line is the reason"
    ),
    pytest.param("exit 9", False, False, "mine activate ended with 9", id="no reason given"),
    pytest.param("kill -9 $$", False, False, "mine activate ended with -9", id="killed"),
    pytest.param("yes | head -c 300000 >&2; echo end >&2; exit 1", False, False, "end", id="long output"),
    pytest.param("printf '\\377\\376 bad' >&2; exit 1", False, False, "\ufffd\ufffd bad", id="not text"),
]


@pytest.mark.parametrize(("script", "ok", "later", "reason"), ENDINGS)
def test_exit_codes_and_reasons(paths: Paths, script: str, ok: bool, later: bool, reason: str) -> None:
    hook(paths, script)
    result = call(paths)
    assert (result.ok, result.later, result.reason) == (ok, later, reason)


def test_at_the_limit_the_whole_group_is_killed(paths: Paths) -> None:
    hook(paths, 'sh -c "echo \\$\\$ > $FLAGHOIST_RUN_DIR/pid; exec sleep 600" & wait')
    result = call(paths, seconds=1.0)
    assert result.reason == "mine activate was stopped after 1 s"
    pid = int((paths.run / "pid").read_text())
    wait_until(
        lambda: (
            not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1]
        )
    )


def test_a_service_that_keeps_our_files_open_holds_nobody(paths: Paths) -> None:
    hook(paths, "setsid sleep 5 & echo $! > $FLAGHOIST_RUN_DIR/pid; exit 0")
    assert call(paths, seconds=2).ok
    os.kill(int((paths.run / "pid").read_text()), 9)


def test_hooks_are_told_what_they_act_on(paths: Paths) -> None:
    hook(paths, 'env > "$FLAGHOIST_RUN_DIR/env"; echo "$1" > "$FLAGHOIST_RUN_DIR/verb"')
    assert call(paths, PORT="8081").ok
    told = dict(line.split("=", 1) for line in (paths.run / "env").read_text().splitlines() if "=" in line)
    wanted = {
        "FLAGHOIST_RELEASE_ID": "kiosk-8-b",
        "FLAGHOIST_RELEASE_DIR": str(paths.release("kiosk-8-b")),
        "FLAGHOIST_PREVIOUS_DIR": str(paths.release("kiosk-7-a")),
        "FLAGHOIST_ROLE": "kiosk",
        "FLAGHOIST_DEVICE_ID": "shop-12",
        "FLAGHOIST_STATE_DIR": str(paths.root),
        "FLAGHOIST_RUN_DIR": str(paths.run),
        "FLAGHOIST_ENV_DIR": str(paths.rendered("kiosk-8-b") / "env"),
        "PORT": "8081",
    }
    assert wanted.items() <= told.items()
    assert (paths.run / "verb").read_text() == "activate\n"


def test_a_hook_sees_nothing_else_of_the_agents_environment(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SECRET", "x")
    hook(paths, '[ -z "$SOME_SECRET" ]')
    assert call(paths).ok


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        pytest.param(0o644, "has no hook 'mine'", id="not executable"),
        pytest.param(None, "no hook", id="missing"),
    ],
)
def test_a_hook_that_is_not_there_has_failed(paths: Paths, mode: int | None, reason: str) -> None:
    path = hook(paths, "")
    path.unlink() if mode is None else path.chmod(mode)
    result = call(paths)
    assert not result.ok
    assert reason in result.reason


def test_a_hook_without_interpreter_has_failed(paths: Paths) -> None:
    path = hook(paths, "")
    path.write_text("#!/no/such/interpreter\n")
    assert "cannot run" in call(paths).reason


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.EAGAIN, errno.ENOMEM, errno.EIO])
def test_a_machine_that_cannot_start_a_program_now_does_it_later(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """D2: else a disk that is full for a moment would condemn a good release."""
    hook(paths, "")

    def refuses(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("edge.updating.hooks.tempfile.TemporaryFile", refuses)
        result = call(paths)
    assert result.later
    assert result.reason.endswith(f"cannot run: {os.strerror(number)}")
    assert call(paths).ok


def test_later_is_asked_again_until_the_limit() -> None:
    results = [Result(75, "busy"), Result(75, "busy"), Result(0, "")]
    pauses: list[float] = []
    assert hooks.patiently(lambda: results.pop(0), seconds=10, pause=0.5, sleep=pauses.append).ok
    assert pauses == [0.5, 0.5]
    assert hooks.patiently(lambda: Result(75, "busy"), seconds=0.1, pause=0.5, sleep=pauses.append).later
