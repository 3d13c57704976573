"""What happened in a run: who began, how it ended, who heard of a pause and when. Keeps times, draws conclusions.

Times are seconds on the monotonic clock, which is the same for every process of a machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from topics.messages import UpdateResult

FAILED = ("failed", "rolled_back")
ENDED = ("committed", *FAILED)


class Outcome(NamedTuple):
    """The end of an attempt, at the moment its report went to the broker."""

    at: float
    device_id: str
    failed: bool


class Crossing(NamedTuple):
    """The report that crossed a threshold: when it went out, and how many had failed and ended by then."""

    at: float
    failed: int
    ended: int


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What the release's policy bears: `max_ratio` of its failure policy in percent as it was written, and
    `min_reports`."""

    percent: str
    min_reports: int


class Rollout:
    """One release in one segment."""

    def __init__(self) -> None:
        self.begins: dict[str, float] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.stopped: set[str] = set()
        """Devices that began and were told to stop before anything was changed."""
        self.dark: set[str] = set()
        self.pauses: dict[str, float] = {}
        """When each device first heard of a pause."""
        self.paused_now: set[str] = set()
        self.began_while_paused = 0


class Tally:
    """Takes notes for all devices of a run, by release and the segment in which each began."""

    def __init__(self) -> None:
        self.rollouts: dict[tuple[str, str], Rollout] = {}

    def began(self, device_id: str, segment: str, release_id: str, at: float) -> None:
        """The device started an update."""
        rollout = self._of(release_id, segment)
        rollout.begins.setdefault(device_id, at)
        rollout.began_while_paused += device_id in rollout.paused_now

    def reported(self, device_id: str, report: UpdateResult, at: float) -> None:
        """A result went out; one that is sent again is known by its release."""
        if report.release is None or report.segment is None or report.state not in ENDED:
            return
        failed = report.state in FAILED
        rollout = self._of(report.release, report.segment)
        if failed and report.cause == "ordered":
            rollout.stopped.add(device_id)
            return
        if device_id not in rollout.outcomes:
            rollout.outcomes[device_id] = Outcome(at, device_id, failed)

    def offered(self, device_id: str, segment: str, release_id: str, at: float, *, paused: bool) -> None:
        """The device came to believe a manifest with the release as its candidate."""
        rollout = self._of(release_id, segment)
        if paused:
            rollout.pauses.setdefault(device_id, at)
            rollout.paused_now.add(device_id)
        else:
            rollout.paused_now.discard(device_id)

    def went_dark(self, device_id: str, segment: str, release_id: str) -> None:
        """The device fell silent in the middle of the update."""
        self._of(release_id, segment).dark.add(device_id)

    def _of(self, release_id: str, segment: str) -> Rollout:
        return self.rollouts.setdefault((release_id, segment), Rollout())


def crossing(begins: Iterable[float], outcomes: Iterable[Outcome], bears: Tolerance) -> Crossing | None:
    """Return the report that crossed the threshold, None when none did.

    The hub's rule: once at least `min_reports` devices ended (or all that began, if fewer), a share of failures above
    `max_ratio`; exactly as much is borne. Silence, which the hub also counts, is not looked at.
    """
    began, ratio = sorted(begins), Fraction(bears.percent) / 100
    failures = 0
    for ended, outcome in enumerate(sorted(outcomes), 1):
        failures += outcome.failed
        needed = min(bears.min_reports, sum(at <= outcome.at for at in began))
        if failures and ended >= needed and failures > ratio * ended:
            return Crossing(outcome.at, failures, ended)
    return None
