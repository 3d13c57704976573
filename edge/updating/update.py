"""The short-lived process that carries one update to its end, from wherever a crash left it.

Each step of `topics.lifecycle` is written to `state` before it takes effect. The parent is told of each by a
byte on a pipe and reads the reports from `state`.
"""

from __future__ import annotations

import logging
from typing import Final

from edge import beliefs, safemode
from edge.byhand import rules
from edge.download import delta
from edge.errors import Stop
from edge.machine import clock, facts
from edge.selfupdate import trial
from edge.storage import disk, memory, records, state
from edge.storage.state import Installed, Update
from edge.updating import activate, chaos, probation, stage
from edge.updating.hooks import Place, Result
from edge.updating.standing import Standing
from topics import lifecycle
from topics.documents import Release

MAX_ROLLBACKS: Final = 3
MAX_INTERRUPTED: Final = 2
"""Attempts that may end by interruptions alone before the release counts as failed here."""

log = logging.getLogger("flaghoist")


class Updater(Standing):
    """Carries the update in `state` on, then sees that the committed release runs. Raises `OSError`."""

    def run(self) -> None:
        """Finish or undo what is under way."""
        update = self._state.update
        if update is not None:
            self._resume(update)
        if self._state.update is not None and self._state.update.state == "probation":
            return  # the agent starts anew as the build that came with the release, and goes on there
        self._tidy()
        self._ensure()
        self._collect()

    # The way forward

    def _resume(self, update: Update) -> None:
        limit = self._tools.settings.max_activations
        restart: lifecycle.Restart = "wanted" if update.restart == self._tools.boot else "done"
        match lifecycle.after_crash(
            update.state,
            activations=update.activations,
            max_activations=limit,
            restart=restart if update.restart else "",
        ):
            case "start_over":
                self._stand_meanwhile()
                # Nothing was changed yet; not a transition, so it is not reported again.
                self._save(update=records.changed(update, state="downloading"))
                self._forward(update.release)
            case "activate_again":
                if self._state.running_id and activate.points_to(self._paths, self._state.running_id):
                    self._stand_meanwhile()
                self._activate()
            case "restart":
                self._restart_again()
            case "probe":
                self._to("probation", base=self._changed(restart=""))
                self._probation()
            case "probe_again":
                self._probe_again(update)
            case "roll_back":
                reason = f"interrupted {update.activations} times"
                self._roll_back(reason, lasting=update.tries + 1 >= MAX_INTERRUPTED)
            case _:
                pass

    def _forward(self, release: Release) -> None:
        try:
            self._broken("download", stops=True)
            if stage.reuse(self._paths, release, self._values):
                self._to("verified")
            else:
                self._obtain(release)
            self._broken("verify", stops=True)
            self._to("staged")
            self._broken("stage", stops=True)
            self._hooks().find(release.hook)
            trial.prepare(self._paths, release.id, self._tools.settings)
            self._ask_again(release)
        except Stop as stop:
            self._fail(stop)
            return
        self._activate()

    def _obtain(self, release: Release) -> None:
        """Stage the release: from files that stand here and the rest one by one, or from its whole bundle."""
        fetcher = self._tools.fetcher(self._update.sources)
        installed = (self._state.running, self._state.previous)
        held = [each.release.id for each in installed if each]
        # What a technician brought is here whole: nobody needs to be asked for parts of it.
        brought = bool(self._update.by_hand)
        if not brought and delta.make(self._paths, release, fetcher, held, self._values):
            self._to("verified")
        else:
            archive = fetcher.fetch(release, self._paths.downloads)
            self._to("verified")
            stage.stage(self._paths, release, archive, self._values)

    def _ask_again(self, release: Release) -> None:
        """Refuse to activate what the hub no longer wants: much can be said during a download."""
        self._memory = memory.need(self._paths)
        now = clock.judge(self._memory.trust, self._tools.clock.wall())
        held = beliefs.reopen(self._memory, self._tools.device.device_id, now)
        own = facts.of(
            self._tools.device,
            self._tools.settings,
            held,
            self._state,
            retry=release.id if self._update.retry else None,
        )
        if self._update.by_hand:
            decision = rules.judge(held.memory.trust, own, release, held.memory.trust.time(now), older=True)
        else:
            decision = facts.verdict(held, own, now)
        if not decision.eligible:
            raise Stop(decision.reason, cause="ordered", check=decision.check)
        if decision.release is None or decision.release.id != release.id:
            raise Stop("another release is wanted by now", cause="ordered")

    def _fail(self, stop: Stop) -> None:
        release = self._update.release
        disk.remove(self._paths.releases / f".staging-{release.id}")
        changed = self._state
        if stop.lasting:
            changed = state.with_failed(changed, release.id)
        if stop.lasting or stop.full:
            # Also makes room to write down that it failed.
            activate.prune(self._paths, changed, downloads=True)
        update = records.changed(self._update, reason=stop.reason, lasting=stop.lasting, cause=stop.cause)
        self._to("failed", base=records.changed(changed, update=update), check=stop.check)

    def _activate(self) -> None:
        """Swap the new release in. Counted first, so that one which kills the device is not tried for ever."""
        update = records.changed(self._update, activations=self._update.activations + 1)
        if update.state == "activating":
            self._save(update=update)
        else:
            self._to("activating", base=records.changed(self._state, update=update))
        if problem := self._fill(update.release.id):
            self._roll_back(problem, lasting=False)
            return
        broken = self._broken("activate")
        failure = Result(1, broken) if broken else self._call("install")
        if failure.ok:
            activate.point(self._paths, update.release.id, self._state.running_id)
            failure = self._replace_other_hook()
        if failure.ok:
            failure = self._with_restart(self._call("activate"))
        if failure.ok:
            self._to("probation")
            self._probation()
        else:
            self._roll_back(failure.reason)

    def _probe_again(self, update: Update) -> None:
        """Begin probation anew. Counted too: a release may kill the device only after it was activated."""
        self._save(update=records.changed(update, activations=update.activations + 1, restart=""))
        # After a power cut nothing may run; one that runs already is left alone by its hook.
        result = self._with_restart(self._call("activate"))
        if result.ok:
            self._probation()
        else:
            self._roll_back(result.reason)

    def _replace_other_hook(self) -> Result:
        """Stop a running release that another hook runs: the new one's hook knows nothing of it."""
        running = self._state.running
        if running is None or running.release.hook == self._update.release.hook:
            return Result(0, "")
        return self._patient("rollback", Place(running.release.id, running.release.hook))

    def _probation(self) -> None:
        release = self._update.release
        if broken := self._broken("probation"):
            self._roll_back(broken)
            return
        info = stage.stands(self._paths, release)
        if info is None:
            self._roll_back("the release's files are not as they were signed")
            return
        settings = self._tools.settings
        build = trial.due(self._paths, release.id)
        if build:
            problem = trial.begin(self._paths, build, probation=info.probation_seconds, settings=settings)
            if problem:
                self._roll_back(problem, lasting=self._update.tries + 1 >= MAX_INTERRUPTED)
            return
        problem = probation.watch(self._paths, settings, self._hooks(), self._place(), info)
        if problem:
            self._roll_back(problem)
        elif not self._update.by_hand and (problem := trial.not_reached(self._paths, settings)):
            self._roll_back(problem, lasting=self._update.tries + 1 >= MAX_INTERRUPTED)
        else:
            self._commit()

    def _commit(self) -> None:
        """Take what passed probation as the release that runs."""
        release = self._update.release
        running = Installed(release, self._tools.clock.wall() // 1000)
        # One that `redeploy` brought through probation ends a stay in safe mode.
        reason = f"{release.id} was committed"
        failed = [known for known in self._state.failed if known != release.id]
        if self._update.by_hand == "rollback" and self._state.running_id:
            # Or the hub, which still wants it, would have it back at the next decision.
            failed = [*failed, self._state.running_id]
        committed = records.changed(
            safemode.left(self._state, reason, self._memory.boot, self._tools.clock.wall() // 1000),
            running=running,
            previous=self._state.running or self._state.previous,
            failures=0,
            service="",
            failed=failed[-state.MAX_FAILED :],
        )
        self._to("committed", base=committed)
        trial.confirm(self._paths, release.id)

    # The way back

    def _roll_back(self, reason: str, *, lasting: bool = True) -> None:
        if self._update.state != "rolling_back":
            self._to("rolling_back", base=self._changed(reason=reason, lasting=lasting, restart=""))
        trial.withdraw(self._paths)
        previous = self._state.running
        activate.point(
            self._paths,
            previous.release.id if previous else None,
            self._state.previous.release.id if self._state.previous else None,
        )
        failure = self._put_back()
        update = self._update
        changed = self._state
        if not failure.ok:
            update = records.changed(update, reason=f"{update.reason}; {failure.reason}")
        if update.lasting:
            changed = state.with_failed(changed, update.release.id)
        failures = changed.failures + 1
        # In safe mode too the release was started again: the minimal stack has to be left anew.
        changed = records.changed(
            changed, update=update, failures=failures, service=failure.reason, safe_mode_applied=False
        )
        if not changed.safe_mode and (failures >= self._tools.settings.safe_mode_after or not failure.ok):
            wall = self._tools.clock.wall() // 1000
            changed = safemode.entered_by_itself(changed, update.reason, self._memory.boot, wall)
        self._to("rolled_back", base=changed)

    def _put_back(self) -> Result:
        """Run the old release again. Counted and limited: a failing hook may not loop here for ever."""
        previous = self._state.running
        if previous is not None and (problem := self._fill(previous.release.id)):
            log.warning("%s goes on with the settings that it had: %s", previous.release.id, problem)
        same = previous is not None and previous.release.hook == self._update.release.hook
        result = Result(1, "the hook was interrupted while rolling back")
        while self._update.rollbacks < MAX_ROLLBACKS:
            self._state = self._changed(rollbacks=self._update.rollbacks + 1, restart="")
            self._save()
            result = self._patient("rollback", self._place(previous.release.id if previous and same else ""))
            if result.ok and previous is not None and not same:
                result = self._patient("activate", Place(previous.release.id, previous.release.hook))
            result = self._with_restart(result)
            if result.ok:
                return result
        return result

    # Restarts of the machine

    def _with_restart(self, result: Result) -> Result:
        """Restart the machine if a hook asks for it. What comes after that is done by what `state` says."""
        if not result.restart:
            return result
        self._state = self._changed(restart=self._tools.boot)
        self._save()
        self._tools.tell()
        return Result(1, self._tools.restart())

    def _restart_again(self) -> None:
        """Ask once more for the restart that was wanted: this process ended, and the machine did not."""
        self._roll_back(self._tools.restart())

    def _broken(self, phase: str, *, stops: bool = False) -> str:
        """Return why the update breaks in `phase` because it was made to, "" if it was not; raise it if it `stops`."""
        fault = chaos.due(self._update.fail_by, phase)
        if fault is None:
            return ""
        self._save(update=records.changed(self._update, fail_by=""))
        reason = chaos.strike(fault, self._tools.settings.hook_seconds)
        if stops:
            raise Stop(reason)
        return reason
