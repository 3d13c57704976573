"""`flaghoist rollout watch`: a rollout as it goes, until it ends or reaches what was waited for."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from hub.cli import output
from hub.cli.api import Hub
from hub.cli.errors import Refused, Unreachable
from hub.cli.options import hub_options, json_option, release_argument
from hub.cli.promotions import path_of
from hub.usage import clean

PATIENCE: Final = 30.0
"""Seconds without an answer after which a watch gives up: longer than a hub takes to restart."""

STATES: Final = (
    "draft",
    "validated",
    "published",
    "rolling",
    "paused",
    "halted",
    "rolled_back",
    "superseded",
    "complete",
)
SETTLED: Final = "settled"
"""Not a state of the hub's: every device that the present share reaches has reported its end."""
ENDS: Final = frozenset({"complete", "halted", "rolled_back", "superseded"})
AFTER_HALT: Final = frozenset({"rolled_back", "superseded"})


class Segment(msgspec.Struct, frozen=True):
    """Counts of one segment, in devices; `refused` counts by reason."""

    segment: str
    expected: int = 0
    began: int = 0
    committed: int = 0
    failed: int = 0
    rolled_back: int = 0
    in_progress: int = 0
    lost: int = 0
    drifted: int = 0
    safe_mode: int = 0
    refused: dict[str, int] = {}
    share_basis_points: int = 0
    awaited: int = 0

    @property
    def ended(self) -> int:
        """Devices that have reported how it ended, or are held for lost."""
        failures = self.failed + self.rolled_back + self.lost + self.drifted + self.safe_mode
        return self.committed + failures


class Progress(msgspec.Struct, frozen=True):
    """Where a rollout stands."""

    id: str
    state: str
    reason: str = ""
    segments: list[Segment] = []

    @property
    def reached(self) -> list[Segment]:
        """The segments that the release is offered to so far."""
        return [entry for entry in self.segments if entry.share_basis_points > 0]

    @property
    def settled(self) -> bool:
        """Whether every device that the present share reaches has ended, and there was at least one."""
        reached = self.reached
        # Nobody to wait for is no evidence: it would let a script go on at once.
        return any(entry.ended for entry in reached) and all(
            not entry.in_progress and not entry.awaited for entry in reached
        )


def verdict(progress: Progress, until: frozenset[str]) -> bool | None:
    """Return whether the watch has what it waited for, or None while it has to go on.

    - A state that was asked for: True. `settled` as well, while the rollout goes on.
    - Nothing was asked for: `complete` is True, any other end False.
    - An end that was not asked for: False, since what was asked for will not come. A halt alone is no end
      for who waits for `rolled_back` or `superseded`, which may follow it.
    """
    wanted = until or frozenset({"complete"})
    if progress.state in wanted:
        return True
    if SETTLED in wanted and progress.state == "rolling" and progress.settled:
        return True
    if progress.state == "halted" and wanted & AFTER_HALT:
        return None
    return False if progress.state in ENDS else None


def line(progress: Progress) -> str:
    """Return the whole of `progress` on one line, for a pipe or a log."""
    parts = [progress.id, progress.state]
    for entry in progress.reached:
        counts = [f"{name} {value}" for name, value in _counts(entry) if value]
        share = f"{entry.share_basis_points / 100:g}%"
        parts.append(f"{entry.segment} {share} of {entry.expected}: {', '.join(counts) or 'nothing yet'}")
    return "; ".join(parts) + (f" ({progress.reason})" if progress.reason else "")


@click.group()
def rollout() -> None:
    """Watch rollouts."""


@rollout.command()
@release_argument
@click.option(
    "--until",
    type=click.Choice((*STATES, SETTLED)),
    multiple=True,
    help="End with success in this state; may be given several times. Default: complete.",
)
@click.option(
    "--timeout", type=click.FloatRange(min=0), help="Seconds after which to give up; default never."
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.05, max=3600),
    default=1.0,
    show_default=True,
    help="Seconds between questions to the hub.",
)
@json_option
@hub_options
def watch(
    release_id: str, until: tuple[str, ...], timeout: float | None, interval: float, as_json: bool, hub: Hub
) -> None:
    """Show a rollout as it goes: live on a terminal, a line for each change in a pipe."""
    wanted = frozenset(until)
    progress, done = Progress(release_id, "unknown"), None
    with _view(as_json=as_json) as view:
        for progress in _changes(hub, release_id, timeout, interval):
            view(progress)
            done = verdict(progress, wanted)
            if done is not None:
                break
    if done is None:
        raise Refused(
            f"{release_id} is {progress.state} after {timeout:g} seconds; "
            f"run `flaghoist rollout watch {release_id}` to go on watching"
        )
    if not done:
        raise Refused(
            f"{release_id} is {progress.state}" + (f": {progress.reason}" if progress.reason else "")
        )


def _changes(hub: Hub, release_id: str, timeout: float | None, interval: float) -> Iterator[Progress]:
    """Yield the progress whenever it has changed, until `timeout` (s)."""
    started = heard = time.monotonic()
    last: Progress | None = None
    while True:
        try:
            progress = hub.read(hub.get(f"{path_of(release_id)}/progress"), Progress)
            heard = time.monotonic()
            if progress != last:
                yield progress
            last = progress
        except Unreachable:
            # The first question says whether the hub is there at all; later a restart must not end the watch.
            if last is None or time.monotonic() - heard > PATIENCE:
                raise
        left = float("inf") if timeout is None else started + timeout - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(interval, left))


@contextmanager
def _view(*, as_json: bool) -> Iterator[Any]:
    if as_json:
        yield lambda progress: output.emit_json(progress, indent=None)
    elif sys.stdout.isatty():
        with Live(console=Console(), auto_refresh=False) as live:
            yield lambda progress: live.update(_picture(progress), refresh=True)
    else:
        yield lambda progress: output.emit(line(progress))


def _picture(progress: Progress) -> Group:
    columns = ("segment", "share", "expected", *(name for name, _ in _counts(Segment(""))))
    rows = [
        [
            entry.segment,
            f"{entry.share_basis_points / 100:g}%",
            str(entry.expected),
            *(str(value) for _, value in _counts(entry)),
        ]
        for entry in progress.segments
    ]
    title = Text(f"{clean(progress.id)}  {progress.state}", style="bold")
    reason = [Text(clean(progress.reason))] if progress.reason else []
    return Group(title, *reason, output.grid(columns, rows))


def _counts(entry: Segment) -> list[tuple[str, int]]:
    return [
        ("committed", entry.committed),
        ("in progress", entry.in_progress),
        ("failed", entry.failed),
        ("rolled back", entry.rolled_back),
        ("lost", entry.lost),
        ("drifted", entry.drifted),
        ("safe mode", entry.safe_mode),
        ("refused", sum(entry.refused.values())),
    ]
