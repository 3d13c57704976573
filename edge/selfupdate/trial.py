"""How an update with a build of the agent in it goes: installed before anything is changed, tried in probation.

The release is committed only by its own agent, which has come up, seen the release through probation and reached the
hub. Otherwise the release goes back, and with it the agent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from edge.config import Paths, Settings
from edge.errors import Stop
from edge.selfupdate import builds, choice, launcher, witness
from edge.storage import disk, records

PAUSE: Final = 1.0
"""Seconds between two looks for the hub's answer."""

log = logging.getLogger("flaghoist")


def prepare(paths: Paths, release_id: str, settings: Settings) -> None:
    """Have the build of a release, if it carries one, ready to be started. Raises `Stop` and `OSError`."""
    files = builds.carried(paths, release_id)
    build = builds.name(files)
    if not build or build == launcher.own():
        return
    try:
        builds.install(paths, release_id, files)
    except OSError as error:
        what = (
            "the disk is full" if disk.is_full(error) else f"cannot copy the agent: {error.strerror or error}"
        )
        raise Stop(what, full=disk.is_full(error)) from None
    builds.check(paths, build, settings.hook_seconds)
    held = choice.load(paths)
    if held.failed == build:
        choice.save(paths, records.changed(held, failed=""))


def due(paths: Paths, release_id: str) -> str:
    """Return the build that a release has yet to be run by, "" for none."""
    build = builds.name(builds.carried(paths, release_id))
    return "" if build == launcher.own() else build


def begin(paths: Paths, build: str, *, probation: float, settings: Settings) -> str:
    """Put a build on trial: the next start is its. Return why not, "" when it is. Raises `OSError`."""
    held = choice.load(paths)
    if held.failed == build:
        return f"its agent did not come up in {choice.TRIES} starts"
    # Twice: beside the wait for the hub, hooks and checks take their time.
    seconds = probation + 2 * settings.agent_trial_seconds
    choice.save(paths, records.changed(held, trial=build, seconds=seconds, starts=0, failed=""))
    return ""


def not_reached(
    paths: Paths,
    settings: Settings,
    *,
    steady: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    is_hub_away: Callable[[Paths, Settings], bool] = witness.is_hub_away,
) -> str:
    """Wait until this build, if it is on trial, has reached the hub; return why it is not taken.

    An agent that does not reach the hub could not be mended from afar, so it does not stay. While the installed agent
    finds no way to the hub either, that is no word against the new one: the trial goes on, and for one whole time more
    from the first look that finds a way again, since nobody knows how long it has been there. Raises `OSError`.
    """
    build = launcher.own()
    if not build or choice.load(paths).trial != build:
        return ""
    end, was_away = steady() + settings.agent_trial_seconds, False
    while choice.noted(paths, "reached") != build:
        if steady() >= end:
            is_away = is_hub_away(paths, settings)
            if not is_away and not was_away:
                return f"its agent did not reach the hub within {settings.agent_trial_seconds:g} s"
            log.warning("the hub %s away; the trial of the new agent goes on", "is" if is_away else "was")
            was_away = is_away
            # With the time that asking took, or after many such looks the guard would end what still waits.
            before, end = end, steady() + settings.agent_trial_seconds
            _lengthen(paths, end - before)
        sleep(PAUSE)
    return ""


def _lengthen(paths: Paths, seconds: float) -> None:
    """Give the build on trial more time, by the guard as well."""
    held = choice.load(paths)
    choice.save(paths, records.changed(held, seconds=held.seconds + seconds))


def confirm(paths: Paths, release_id: str) -> None:
    """Choose the build of a committed release, if it carries one. Raises `OSError`."""
    if not choice.home(paths).is_dir():
        return
    build = builds.name(builds.carried(paths, release_id))
    held = choice.load(paths)
    if build and held.chosen != build and choice.folder(paths, build).is_dir():
        choice.save(paths, choice.Choice(chosen=build))


def withdraw(paths: Paths) -> None:
    """End a trial without a verdict on the build: its release goes back. Raises `OSError`."""
    held = choice.load(paths)
    if held.trial:
        choice.save(paths, records.changed(held, trial="", seconds=0.0, starts=0))
