"""Ending what a demonstration left running touches nothing but that demonstration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
from rich.console import Console

from tests.e2e.demo import stop
from tests.e2e.fleet import Fleet


def sleeper(folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], cwd=folder)


def test_a_folder_that_no_demonstration_made_is_left_alone(tmp_path: Path) -> None:
    process = sleeper(tmp_path / "work")
    try:
        assert stop(tmp_path, Console(quiet=True)) == 1
        assert process.poll() is None and (tmp_path / "work").is_dir()
    finally:
        process.kill()
        process.wait()


def test_only_what_works_in_the_folder_itself_is_ended(tmp_path: Path) -> None:
    demo, neighbour = tmp_path / "demo-1", tmp_path / "demo-10"
    Fleet(demo).mark()
    own, other = sleeper(demo / "device"), sleeper(neighbour)
    try:
        assert stop(demo, Console(quiet=True)) == 0
        assert not psutil.pid_exists(own.pid)
        assert other.poll() is None and neighbour.is_dir() and not demo.exists()
    finally:
        for process in (own, other):
            process.kill()
            process.wait()
