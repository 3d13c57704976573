"""The first thing that every command does: become the build of the agent that is wanted.

Starts are counted on disk before they happen, so a build that cannot start, or that takes the machine down with it,
is left after `choice.TRIES` of them whatever happened. A build on trial that starts and then hangs, or cannot finish
its own update, is ended by a guard: a small process of the installed agent that sleeps until the trial's time is over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge.config import Paths
from edge.errors import EdgeError
from edge.selfupdate import choice
from edge.selfupdate.choice import Choice
from edge.storage import records

BUILD: Final = "FLAGHOIST_AGENT_BUILD"
"""In the environment of a build: its name."""
INSTALLED: Final = "FLAGHOIST_AGENT_INSTALLED"
"""In the environment of a build: the folder with the installed agent's packages."""
STAYING: Final = ("run", "once")
"""Commands that are the agent at work; the others only look, so nothing is counted."""


def own() -> str:
    """Return the build that this process is, "" for the installed agent."""
    return os.environ.get(BUILD, "")


def enter(paths: Paths, verb: str, arguments: list[str]) -> None:
    """Replace this process by the wanted build, if there is one and this is not it. Raises nothing of its own."""
    try:
        if BUILD in os.environ or not choice.home(paths).is_dir():
            return
        build = _start(paths) if verb in STAYING else choice.load(paths).wanted
    except (OSError, EdgeError):
        # What is wrong with the state directory is told by the command itself.
        return
    if build and (choice.folder(paths, build) / "edge" / "main.py").is_file():
        become(environment(choice.folder(paths, build), build), arguments)


def again(arguments: list[str]) -> None:
    """Start anew from the installed agent, which chooses; does not return."""
    environ = {name: text for name, text in os.environ.items() if name not in (BUILD, INSTALLED)}
    if INSTALLED in os.environ:
        environ["PYTHONPATH"] = os.environ[INSTALLED]
    become(environ, arguments)


def become(environ: dict[str, str], arguments: list[str]) -> None:
    """Replace this process; pid, standing with systemd and standard streams stay."""
    os.execve(sys.executable, [sys.executable, "-m", "edge.main", *arguments], environ)  # noqa: S606


def environment(folder: Path, build: str) -> dict[str, str]:
    """Return the environment of a build: its own packages first, what it does not carry from the installed ones."""
    return os.environ | {
        BUILD: build,
        INSTALLED: os.environ.get(INSTALLED, str(Path(__file__).resolve().parents[2])),
        "PYTHONPATH": str(folder),
        # Not the working directory, which `-m` would put first.
        "PYTHONSAFEPATH": "1",
    }


def _start(paths: Paths) -> str:
    """Count the start that comes, and return the build to start. Raises `OSError` and `NotReady`."""
    with _alone(paths) as alone:
        held = choice.load(paths)
        if not alone:
            return held.wanted  # another agent works here, so this start ends by itself
        came_up = choice.noted(paths, "up") == held.wanted
        counted, build = choice.next_start(held, came_up=came_up)
        try:
            if counted != held:
                choice.save(paths, counted)
            choice.forget_notes(paths)
        except OSError:
            # What cannot be counted is not tried.
            return held.chosen
    if build and build == counted.trial:
        # Only now: a guard would inherit the lock.
        _guard(paths, counted)
    return build


@contextlib.contextmanager
def _alone(paths: Paths) -> Iterator[bool]:
    """Hold the agent's lock meanwhile; False when another process does."""
    handle = os.open(paths.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def _guard(paths: Paths, held: Choice) -> None:
    """Leave a process behind that ends this one, should the trial still be on when its time is over."""
    process = os.pidfd_open(os.getpid())
    first = os.fork()
    if first:
        os.close(process)
        os.waitpid(first, 0)
        return
    try:
        # A grandchild: nobody has to wait for its end.
        if os.fork() == 0:
            _watch(paths, held, process)
    finally:
        os._exit(0)


def _watch(paths: Paths, held: Choice, process: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    left = held.seconds
    while left > 0:
        ended, _, _ = select.select([process], [], [], left)
        now = choice.load(paths)
        # Confirmed, withdrawn or started once more: then it is none of this guard's business.
        if ended or records.changed(now, seconds=held.seconds) != held:
            return
        # While the hub is away, a trial is given more time.
        left, held = now.seconds - held.seconds, now
    signal.pidfd_send_signal(process, signal.SIGKILL)
