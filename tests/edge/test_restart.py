"""Releases that run only after a restart of the machine: what is said of them before, through and after it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.storage import records, state
from edge.storage.state import Update
from edge.updating import restart
from edge.updating.standing import MAX_REBOOTS
from tests.edge.test_order import Traced
from tests.edge.world import Box, Built, Source, build, wait_until

HOOK = """#!/bin/sh
cd "$FLAGHOIST_STATE_DIR"
before=${FLAGHOIST_PREVIOUS_DIR##*/}
boots() { [ "$(cat booted)" = "$1" ] || { echo "$1" > next; exit 76; }; }
echo "$1 $FLAGHOIST_RELEASE_ID" >> hook.log
[ ! -e "$FLAGHOIST_RELEASE_DIR/files/fail-$1" ] || { echo "no $1 today" >&2; exit 1; }
[ ! -e "fail-$1" ] || { echo "this device cannot $1" >&2; exit 1; }
case "$1" in
  activate) boots "$FLAGHOIST_RELEASE_ID" ;;
  rollback) boots "${before:-factory}" ;;
  probe) [ "$(cat booted)" = "$FLAGHOIST_RELEASE_ID" ] || { echo "the system of $(cat booted) runs" >&2; exit 1; } ;;
esac
"""
"""A hook for images of a system: `booted` names the one that runs, `next` the one for the next boot."""


class PowerOffError(BaseException):
    """Everything stops where it is."""


class Board(Box):
    """A device with a machine that can be restarted."""

    def __init__(self, root: Path, source: Source) -> None:
        super().__init__(root, source)
        self.hook("fake", HOOK)
        self.boots = 1
        self.restarts = 0
        self.writes("booted", "factory")
        self.restart = self.power_off

    def writes(self, name: str, text: str) -> None:
        (self.paths.root / name).write_text(text + "\n")

    def reads(self, name: str) -> str:
        return (self.paths.root / name).read_text().strip()

    def power_off(self) -> str:
        self.restarts += 1
        raise PowerOffError

    def switch_on(self, boots: str | None = None) -> None:
        """Boot `boots`, by default what the bootloader was told, and let the agent work until the next restart."""
        self.boots += 1
        self.boot = f"boot-{self.boots}"
        self.writes("booted", boots or self.reads("next"))
        self.start()
        self.works(self.online)

    def works(self, act: Callable[[], object]) -> bool:
        """Whether the machine is still on after `act`."""
        try:
            act()
        except PowerOffError:
            return False
        return True

    @property
    def latest(self) -> Update:
        update = self.state.update
        assert update is not None
        return update

    @property
    def standing(self) -> str:
        return self.latest.state

    @property
    def reason(self) -> str:
        return self.latest.reason


@pytest.fixture
def board(tmp_path: Path, source: Source) -> Iterator[Board]:
    made = Board(tmp_path, source)
    yield made
    made.close()


def install(board: Board, built: Built) -> None:
    """Bring `built` through an update and the restart that it needs."""
    assert not board.works(lambda: board.offer(built))
    board.switch_on()
    assert board.state.running_id == built.id


OLD, NEW = build(7), build(8)


def test_success_is_said_only_after_the_restart(board: Board) -> None:
    """R2: through the restart the update is `activating`, and what the machine came up with decides."""
    assert not board.works(lambda: board.offer(NEW))
    assert (board.standing, board.state.running_id, board.restarts) == ("activating", None, 1)
    assert board.results() == [("downloading", NEW.id)]
    board.switch_on()
    assert (board.standing, board.state.running_id) == ("committed", NEW.id)
    assert board.results() == [("downloading", NEW.id), ("committed", NEW.id)]
    assert board.calls() == [f"{verb} {NEW.id}" for verb in ("install", "activate", "confirm")]


def test_a_device_that_fell_back_says_so(board: Board) -> None:
    """R2: the bootloader went back to the old system by itself."""
    install(board, OLD)
    assert not board.works(lambda: board.offer(NEW))
    board.switch_on(boots=OLD.id)
    assert (board.standing, board.state.running_id) == ("rolled_back", OLD.id)
    assert board.reason == f"probe: the system of {OLD.id} runs"
    assert board.state.failed == [NEW.id]
    assert board.status.health == "ok", "the old system runs, and should"


def test_the_way_back_is_said_only_after_its_restart(board: Board) -> None:
    bad = build(8, {"files/fail-probe": b""})
    install(board, OLD)
    assert not board.works(lambda: board.offer(bad))
    board.switch_on()
    assert (board.standing, board.restarts) == ("rolling_back", 3)
    assert ("rolled_back", bad.id) not in board.results()
    board.switch_on()
    assert (board.standing, board.reads("booted")) == ("rolled_back", OLD.id)
    assert board.results()[-1] == ("rolled_back", bad.id)
    assert board.reason == "probe: no probe today"


def test_a_machine_that_never_comes_back_to_the_old_system_is_in_safe_mode(board: Board) -> None:
    bad = build(8, {"files/fail-probe": b""})
    install(board, OLD)
    assert not board.works(lambda: board.offer(bad))
    for _ in range(4):
        board.switch_on(boots=bad.id)
    assert board.standing == "rolled_back"
    assert board.state.safe_mode
    assert board.restarts == 2 + 3, "one for each activation, three on the way back"


def test_a_restart_that_does_not_come_rolls_back(board: Board) -> None:
    install(board, OLD)
    board.restart = lambda: "the machine cannot be restarted: no permission"
    board.offer(NEW)
    assert (board.standing, board.state.running_id) == ("rolled_back", OLD.id)
    assert board.reason == "the machine cannot be restarted: no permission"


def test_an_agent_that_is_killed_before_the_restart_asks_for_it_again(board: Board) -> None:
    """The hook is not run again: the update counts as activated once."""
    install(board, OLD)
    before = len(board.calls())
    assert not board.works(lambda: board.offer(NEW))
    board.start()
    assert not board.works(board.online)
    assert board.calls()[before:] == [f"install {NEW.id}", f"activate {NEW.id}"]
    assert board.restarts == 3
    board.switch_on()
    assert board.state.running_id == NEW.id


def test_a_power_cut_before_the_wish_is_written_down_was_a_restart_as_well(board: Board) -> None:
    install(board, OLD)

    def cut() -> str:
        state.save(
            board.paths, records.changed(board.state, update=records.changed(board.latest, restart=""))
        )
        return board.power_off()

    board.restart = cut
    assert not board.works(lambda: board.offer(NEW))
    board.switch_on()
    assert board.state.running_id == NEW.id
    assert board.results()[-2:] == [("downloading", NEW.id), ("committed", NEW.id)]


def test_a_committed_release_whose_system_is_gone_is_not_restarted_for_ever(board: Board) -> None:
    """R2: what falls back after the commit is failing for all to see."""
    install(board, NEW)
    for _ in range(MAX_REBOOTS + 2):
        board.switch_on(boots="factory")
    assert board.restarts == 1 + MAX_REBOOTS
    assert board.status.health == "failing"
    assert board.state.service.startswith(f"the hook wants a restart again after {MAX_REBOOTS}")
    board.switch_on(boots=NEW.id)
    assert (board.status.health, board.state.reboots) == ("ok", 0)


def test_each_boot_is_confirmed_once(board: Board) -> None:
    """Bootloaders count boots: without a word in each of them they fall back."""
    install(board, NEW)
    board.agent.check_now()
    board.settle()
    assert board.calls().count(f"confirm {NEW.id}") == 1
    board.switch_on(boots=NEW.id)
    assert board.calls().count(f"confirm {NEW.id}") == 2


def test_a_release_that_cannot_be_confirmed_is_degraded_and_asked_again(board: Board) -> None:
    board.writes("fail-confirm", "")
    install(board, NEW)
    assert board.state.service == "confirm: this device cannot confirm"
    assert board.status.health == "failing"
    (board.paths.root / "fail-confirm").unlink()
    board.agent.check_now()
    board.settle()
    assert board.state.service == ""


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        pytest.param("true", "the machine was told to restart and did not within 7 s", id="nothing happens"),
        pytest.param("false", "the machine cannot be restarted: false ended with 1", id="refused"),
        pytest.param(
            "/no/such",
            "the machine cannot be restarted: such cannot run: No such file or directory",
            id="none",
        ),
    ],
)
def test_asking_for_a_restart(tmp_path: Path, command: str, reason: str) -> None:
    waited: list[float] = []
    assert restart.ask(command, tmp_path, limit=20, patience=7, sleep=waited.append) == reason
    assert waited == ([7] if command == "true" else [])


def test_a_boot_has_a_name() -> None:
    assert restart.boot() == restart.boot() != ""


def test_the_real_update_process_restarts_the_machine_by_the_command_of_the_settings(
    tmp_path: Path, source: Source
) -> None:
    """And goes on in the next boot; its secrets are what systemd passes as credentials."""
    device = Traced(tmp_path, source)
    device.hook("fake", HOOK)
    (device.paths.root / "booted").write_text(f"{device.state.running_id}\n")
    device.hook("reboot", f'#!/bin/sh\necho "$1" > "{tmp_path}/told"\n')
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "KEY").write_text("s3cret")
    (tmp_path / "credentials" / "KEY").chmod(0o400)
    environment = os.environ | {
        "FLAGHOIST_EDGE_REBOOT_COMMAND": f"{device.paths.hooks}/reboot now",
        "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials"),
    }
    new = build(8, {"env/app.env.tmpl": b"KEY=${KEY}\n"})
    device.begin(new)
    with subprocess.Popen(device.command(), env=environment, stderr=subprocess.DEVNULL) as process:
        told = tmp_path / "told"
        wait_until(lambda: told.exists() and told.read_text() == "now\n", what="the restart")
        process.kill()  # as a machine that goes down does
    update = device.state.update
    assert update is not None and (update.state, update.restart) == ("activating", restart.boot())
    state.save(device.paths, records.changed(device.state, update=records.changed(update, restart="before")))
    (device.paths.root / "booted").write_text(f"{new.id}\n")
    assert subprocess.run(device.command(), env=environment, capture_output=True, check=False).returncode == 0
    assert device.state.running_id == new.id
    assert (device.paths.rendered(new.id) / "env/app.env").read_text() == "KEY=s3cret\n"
    device.close()
