"""Seeing that the committed release runs, is confirmed and is as signed, and that safe mode is kept."""

from __future__ import annotations

import logging
import random
from typing import Final

from edge.drift import files as drift
from edge.drift import inspection, services
from edge.machine import mark
from edge.selfupdate import builds, trial
from edge.storage import state
from edge.updating import activate
from edge.updating.hooks import Place, Result
from edge.updating.work import Work
from topics.documents import Release
from topics.messages import DriftItem

MAX_REBOOTS: Final = 3
"""Restarts of the machine that a running release may ask for in a row before it must be seen to run."""

log = logging.getLogger("flaghoist")


class Standing(Work):
    """What there is to do when no update is under way. Raises `OSError`."""

    def _ensure(self) -> None:
        """See that the committed release runs and is as it was signed, and that safe mode is kept."""
        release = self._stand()
        if release is not None and self._inspect(release):
            self._ensure()

    def _stand(self) -> Release | None:
        """See that the committed release runs: a device that was switched off starts with nothing running.

        Return it, None when there is none and in safe mode.
        """
        mark.safe_mode(self._paths, on=bool(self._state.safe_mode))
        if self._state.safe_mode:
            self._apply_safe_mode()
            return None
        running = self._state.running
        if running is None:
            return None
        trial.confirm(self._paths, running.release.id)
        place = Place(running.release.id, running.release.hook)
        if not activate.points_to(self._paths, running.release.id):
            previous = self._state.previous
            activate.point(self._paths, running.release.id, previous.release.id if previous else None)
        if self._state.again:
            self._reboot_for(self._patient("rollback", place))
            self._save(again=False)
        result = self._hooks().call("probe", place)
        restarts = self._state.restarts
        if result.ok:
            result = self._confirm(place)
        elif not result.later:
            result = self._reboot_for(self._start(place))
            restarts += 1
        service = "" if result.ok or result.later else result.reason
        if (service, restarts) != (self._state.service, self._state.restarts):
            self._save(service=service, restarts=restarts)
            self._tools.tell()
        return running.release

    def _stand_meanwhile(self) -> None:
        """Before an update goes on in a new boot, see that the release runs which it is to replace.

        Nothing runs after a boot, and a download may take hours. What was confirmed in this boot was seen to run.
        """
        running = self._state.running
        if running is not None and self._state.confirmed != self._in_this_boot(running.release.id):
            self._stand()

    def _differences(self, release: Release) -> list[DriftItem]:
        """Return how files and services differ from what was signed."""
        place = Place(release.id, release.hook)
        return drift.check(self._paths, release) + services.look(self._hooks(), place, self._paths.run)

    def _inspect(self, release: Release) -> bool:
        """Look for drift when it is time to, and put it right if that was ordered.

        Return whether content was put back, after which the release has to be started again.
        """
        now, interval = self._tools.clock.wall() // 1000, self._tools.settings.drift_seconds
        share = random.random()  # noqa: S311  (spreads load, guards nothing)
        if not inspection.is_due(self._state, now, interval):
            if bool(self._state.inspect_at) != bool(interval):
                self._save(inspect_at=inspection.planned(self._state, now, interval, share).inspect_at)
            return False
        found = left = self._differences(release)
        content, due = False, self._state.again
        if found and self._state.inspect == "repair":
            # What was loaded from a file that is put back is still in memory. Said beforehand: after a power cut in the
            # middle there may be nothing left to put back, and the release has to be started again all the same.
            self._save(again=True)
            fetcher = self._tools.fetcher(self._state.update.sources if self._state.update else [])
            before = self._state.previous.release.id if self._state.previous else None
            held = [each for each in (before, release.id) if each]
            content, problem = drift.repair(self._paths, release, found, fetcher, held)
            if any(item.what == "service" for item in found):
                started = self._reboot_for(self._start(Place(release.id, release.hook)))
                problem = problem or started.reason
            if problem:
                log.warning("not repaired: %s", problem)
            left = self._differences(release)
        planned = inspection.planned(self._state, now, interval, share)
        self._state = inspection.reported(planned, found, left, now, self._memory.boot)
        self._save(again=due or content)
        self._tools.tell()
        return content

    def _confirm(self, place: Place) -> Result:
        """Make the running release permanent: once committed, and in each boot, since bootloaders count boots.

        It is proven already: a hook that cannot confirm makes the device degraded, and is asked again at the next look.
        """
        this_boot = self._in_this_boot(place.release_id)
        if self._state.confirmed == this_boot:
            return Result(0, "")
        result = self._patient("confirm", place)
        if not result.ok:
            return Result(1, f"confirm: {result.reason}")
        self._save(confirmed=this_boot, reboots=0)
        return result

    def _in_this_boot(self, release_id: str) -> str:
        return f"{release_id} {self._tools.boot}"

    def _reboot_for(self, result: Result) -> Result:
        """Restart the machine if the running release's hook asks for it. Limited: no device restarts without end."""
        if not result.restart:
            return result
        if self._state.reboots >= MAX_REBOOTS:
            return Result(1, f"the hook wants a restart again after {MAX_REBOOTS}: {result.reason}")
        self._save(reboots=self._state.reboots + 1)
        return Result(1, self._tools.restart())

    def _start(self, place: Place) -> Result:
        """Start the running release with its templates filled anew."""
        problem = self._fill(place.release_id)
        return Result(1, problem) if problem else self._patient("activate", place)

    def _apply_safe_mode(self) -> None:
        if self._state.safe_mode_applied:
            return
        release = self._state.running.release if self._state.running else None
        if release is None and self._state.update is not None:
            release = self._state.update.release
        result = Result(0, "")
        if release is not None:
            result = self._patient("safe-mode", Place(release.id, release.hook))
        self._save(safe_mode_applied=True, service=result.reason)

    def _collect(self) -> None:
        """Take the diagnostics that were asked for, keep them, and report them."""
        reason = self._state.collect
        if not reason:
            return
        # Loaded only now: most starts of this process need none of it.
        from edge.diagnose import collect

        told = collect.gather(self._paths, self._state, self._tools.clock)
        wall = self._tools.clock.wall() // 1000
        report = collect.report(told, self._state, reason, self._memory.boot, wall)
        collect.keep(self._paths, told, reason, wall)
        self._state = state.with_report(self._state, report)
        self._save(collect="")
        self._tools.tell()

    def _tidy(self) -> None:
        update = self._state.update
        ended = update is None or update.state in ("committed", "rolled_back")
        activate.prune(self._paths, self._state, downloads=ended)
        builds.prune(self._paths)
