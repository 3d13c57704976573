"""Wrong usage is one line on standard error and exit code 2, whatever click has to say; help stays as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from hub import usage
from tests.hub.cli.conftest import Flaghoist

ID = "kiosk-7-3f2a9c1b5d4e"
GROUPS = (
    "keys",
    "root",
    "release",
    "rollout",
    "device",
    "recovery",
    "ca",
    "policy",
    "compliance",
    "audit",
    "api-key",
)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(["relase"], "No such command 'relase'. Did you mean 'release'? (see `flaghoist --help`)",
                     id="typo"),
        pytest.param(["release", "build"], "Missing option '--role' (see `flaghoist release build --help`)",
                     id="missing-option"),
        pytest.param(["release", "promote", ID],
                     "Missing option '--segment'. Choose from: canary, early, general "
                     "(see `flaghoist release promote --help`)", id="missing-choice"),
        pytest.param(["keys", "show"], "Missing argument 'FILE' (see `flaghoist keys show --help`)",
                     id="missing-argument"),
        pytest.param(["device", "list", "--zz"],
                     "No such option '--zz' (see `flaghoist device list --help`)",
                     id="unknown-option"),
        pytest.param(["--frob"], "No such option '--frob' (see `flaghoist --help`)", id="unknown-global-option"),
        pytest.param(["keys", "show", "a", "b"],
                     "Got unexpected extra argument (b) (see `flaghoist keys show --help`)", id="too-many"),
        pytest.param([], f"a command is missing; give one of {', '.join(sorted(GROUPS))} (see `flaghoist --help`)",
                     id="no-command"),
        pytest.param(["keys"],
                     "a command is missing; give one of encrypt, generate, show (see `flaghoist keys --help`)",
                     id="no-command-of-a-group"),
    ],
)  # fmt: skip
def test_usage_errors_are_one_line(flaghoist: Flaghoist, args: list[str], message: str) -> None:
    ran = flaghoist(*args)
    assert (ran.code, ran.out, ran.err) == (2, "", f"flaghoist: {message}\n")


@pytest.mark.parametrize(
    "group", [[], *([name] for name in GROUPS)], ids=lambda group: " ".join(group) or "-"
)
def test_help_is_on_standard_output_and_lists_the_commands(flaghoist: Flaghoist, group: list[str]) -> None:
    ran = flaghoist(*group, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: {' '.join(['flaghoist', *group])} [OPTIONS] COMMAND")
    assert "Commands:\n" in ran.out


@click.command()
@click.option("--end", required=True, type=click.Choice(["well", "exit", "abort", "refuse", "raise"]))
def program(end: str) -> None:
    """End in one way or another."""
    if end == "exit":
        sys.exit(7)
    if end == "abort":
        raise click.Abort
    if end == "refuse":
        raise click.ClickException("the first line\nand the second")
    if end == "raise":
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        pytest.param(["--end", "well"], 0, "", id="well"),
        pytest.param(["--end", "exit"], 7, "", id="its-own-exit-code"),
        pytest.param(["--end", "abort"], 130, "", id="interrupted"),
        pytest.param(["--end", "refuse"], 1, "prog: the first line and the second\n", id="click-refuses"),
        pytest.param([], 2, "prog: Missing option '--end'. Choose from: well, exit, abort, refuse, raise "
                     "(see `prog --help`)\n", id="usage"),
        pytest.param(["--end", "\udcff"], 2, "prog: argument '\\udcff' is not text; give names and paths in UTF-8 "
                     "(see `prog --help`)\n", id="not-text"),
    ],
)  # fmt: skip
def test_a_program_ends_with_the_exit_code_of_its_command(
    args: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/prog", *args])
    with pytest.raises(SystemExit) as ended:
        usage.run(program, "prog")
    assert ended.value.code == code
    assert capsys.readouterr() == ("", said)


def test_what_is_no_usage_error_is_left_to_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        usage.outcome(program, "prog", ["--end", "raise"])


def test_the_installed_command_says_one_line_for_bytes_that_are_no_text() -> None:
    script = Path(sys.executable).with_name("flaghoist")
    done = subprocess.run(
        [script, b"device", b"show", b"shop-\xff"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        "flaghoist: argument 'shop-\\udcff' is not text; give names and paths in UTF-8 (see `flaghoist --help`)\n",
    )
