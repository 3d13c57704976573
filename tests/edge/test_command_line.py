"""What a technician sees: exit codes, one sentence, and settings that name what is wrong."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge import config, status
from edge.config import Paths, Settings
from edge.errors import NotReady
from edge.main import main
from edge.updating import jobs


def test_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["explode"], ["enrol"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "usage: flaghoist-edge" in said and "update" not in said


@pytest.mark.parametrize("text", ["0", "-1", "nan", "soon", "1e9"])
def test_a_time_that_is_none_is_named_with_its_bounds(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["diagnose", "--watch", text])
    assert caught.value.code == 2
    assert f"{text!r} is no number of seconds; give one from 0.1 to 86400" in capsys.readouterr().err


def test_enrolling_without_a_token_is_a_wrong_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FLAGHOIST_ENROL_TOKEN", raising=False)
    with pytest.raises(SystemExit) as caught:
        main(["enrol", "--hub", "http://127.0.0.1:1", "--device-id", "a", "--state", str(tmp_path / "none")])
    assert caught.value.code == 2
    assert "give --token T, or set FLAGHOIST_ENROL_TOKEN" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_help_lists_the_commands_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    for verb in ("enrol", "run", "once", "status"):
        assert f"\n    {verb} " in said
    assert "update" not in said


@pytest.mark.parametrize("verb", ["run", "once", "status"])
def test_a_device_that_is_not_enrolled_says_how(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "--state", str(tmp_path / "none")]) == 3
    said = capsys.readouterr().err
    assert said == f"flaghoist-edge: {tmp_path}/none holds no identity; run flaghoist-edge enrol first\n"
    assert not (tmp_path / "none").exists()


def test_the_exit_code_says_whose_fault_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = "fh1." + "x" * 10
    enrol = ["enrol", "--hub", "http://127.0.0.1:1", "--device-id", "a", "--state", str(tmp_path)]
    assert main([*enrol, "--token", token]) == 1
    assert "copy all of it" in capsys.readouterr().err


def test_settings_come_from_the_file_and_the_environment(tmp_path: Path) -> None:
    (tmp_path / "agent.json").write_text('{"zone": "Europe/Berlin", "hook_seconds": 7}')
    environment = {"FLAGHOIST_EDGE_HOOK_SECONDS": "9.5", "FLAGHOIST_EDGE_UNKNOWN": "1", "OTHER": "x"}
    settings = config.load_settings(tmp_path, environment)
    assert (settings.zone, settings.hook_seconds) == ("Europe/Berlin", 9.5)
    assert config.load_settings(tmp_path / "none", {}) == Settings()


@pytest.mark.parametrize(
    ("text", "environment", "named"),
    [
        pytest.param("{", {}, "agent.json cannot be used", id="not JSON"),
        pytest.param('{"zones": 1}', {}, "zones", id="unknown name"),
        pytest.param('{"hook_seconds": -1}', {}, "hook_seconds", id="out of bounds"),
        pytest.param('{"hook_seconds": "5"}', {}, "hook_seconds", id="wrong type"),
        pytest.param(
            "{}", {"FLAGHOIST_EDGE_HOOK_SECONDS": "soon"}, "FLAGHOIST_EDGE_HOOK_SECONDS=soon", id="variable"
        ),
    ],
)
def test_a_setting_that_is_wrong_is_named(
    tmp_path: Path, text: str, environment: dict[str, str], named: str
) -> None:
    (tmp_path / "agent.json").write_text(text)
    with pytest.raises(NotReady, match=f"{named}.*; mend it, or (take it away|unset it)$"):
        config.load_settings(tmp_path, environment)


def test_local_variables(tmp_path: Path) -> None:
    (tmp_path / "device.env").write_text("# shop\n\nPORT=8081\n NAME=a = b \nEMPTY=\n")
    assert config.load_variables(tmp_path) == {"PORT": "8081", "NAME": "a = b", "EMPTY": ""}
    assert config.load_variables(tmp_path / "none") == {}


@pytest.mark.parametrize("line", ["PORT", "1PORT=x", "A B=c", "=x", "export A=b c\x00"])
def test_a_line_that_sets_nothing_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "device.env").write_text(f"OK=1\n{line}\n")
    with pytest.raises(NotReady, match=r"line 2 of .*device.env is not NAME=value"):
        config.load_variables(tmp_path)


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotReady, match="name a folder of your own with --state"):
        Paths(tmp_path / "file" / "state").make()


def test_the_update_process_ends_when_its_parent_is_another(tmp_path: Path) -> None:
    arguments = jobs.command(Paths(tmp_path))[3:]
    arguments[-1] = "1"
    done = subprocess.run([sys.executable, "-m", "edge.main", *arguments], check=False, timeout=30)
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "way_out"),
    [
        pytest.param(PermissionError(13, "Permission denied", "/x/state"), "", id="permission"),
        pytest.param(IsADirectoryError(21, "Is a directory", "/x/lock"), "", id="a folder"),
        pytest.param(
            OSError(30, "Read-only file system", "/x/lock"),
            "; flaghoist-edge diagnose says how the disk is",
            id="a disk that takes no writes",
        ),
    ],
)
def test_whatever_the_system_refuses_is_one_sentence(
    fault: OSError,
    way_out: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object) -> None:
        raise fault

    monkeypatch.setattr(status, "gather", refuse)
    assert main(["status", "--state", str(tmp_path)]) == 3
    said = f"flaghoist-edge: the system refused {fault.filename}: {fault.strerror}{way_out}\n"
    assert capsys.readouterr().err == said


def test_an_argument_that_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge.main", "status", "--state", bytes(tmp_path) + b"/\xff\xfe"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.count(b"\n") == 1 and b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("code", "out", "ended"),
    [
        pytest.param(0, subprocess.PIPE, 0, id="done"),
        pytest.param(4, subprocess.PIPE, 4, id="not reached"),
        pytest.param(0, "/dev/full", 1, id="what it says cannot be written"),
        pytest.param(4, "/dev/full", 4, id="nor can what failed"),
    ],
)
def test_the_program_ends_with_all_that_it_said_written(code: int, out: int | str, ended: int) -> None:
    """It ends without Python's own tidying up, which writes what waits."""
    does = f"import edge.main; edge.main.main = lambda: print('said') or {code}; edge.main.program()"
    command = [sys.executable, "-c", does]
    waits = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(Path(out).open("w")) if isinstance(out, str) else out
        done = subprocess.run(command, stdout=target, env=waits, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (ended, "said\n" if out == subprocess.PIPE else None)
