"""The short-lived process that carries one update to its end, from wherever a crash left it.

Each step of `topics.lifecycle` is written to `state` before it takes effect. The parent is told of each by a
byte on a pipe and reads the reports from `state`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from edge import beliefs, safemode
from edge.byhand import rules
from edge.config import Paths, Settings
from edge.download import delta
from edge.download.fetch import Fetcher
from edge.drift import files as drift
from edge.drift import inspection
from edge.errors import Stop
from edge.identity.identity import Device
from edge.machine import clock, facts, mark
from edge.machine.clock import SystemClock
from edge.selfupdate import builds, trial
from edge.storage import disk, memory, records, state
from edge.storage.state import Installed, State, Update
from edge.updating import activate, chaos, probation, stage, transition
from edge.updating.hooks import Hooks, Place, Result, Verb, patiently
from topics import lifecycle
from topics.documents import Release
from topics.messages import DriftItem, UpdateState

MAX_ROLLBACKS: Final = 3
MAX_REBOOTS: Final = 3
"""Restarts of the machine that a running release may ask for in a row before it must be seen to run."""
MAX_INTERRUPTED: Final = 2
"""Attempts that may end by interruptions alone before the release counts as failed here."""

log = logging.getLogger("flaghoist")


@dataclass(frozen=True, slots=True)
class Tools:
    """What the updater works with; `tell` wakes the parent. `boot` names this boot of the machine; `restart` restarts
    it, and returns why it did not."""

    paths: Paths
    settings: Settings
    device: Device
    variables: dict[str, str]
    clock: SystemClock
    fetcher: Callable[[list[str]], Fetcher]
    tell: Callable[[], None]
    boot: str
    restart: Callable[[], str]


class Updater:
    """Carries the update in `state` on, then sees that the committed release runs. Raises `OSError`."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._paths = tools.paths
        self._state = state.load(tools.paths)
        self._memory = memory.need(tools.paths)

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
                # Nothing was changed yet; not a transition, so it is not reported again.
                self._save(update=records.changed(update, state="downloading"))
                self._forward(update.release)
            case "activate_again":
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
            if stage.reuse(self._paths, release, self._tools.variables):
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
        if not brought and delta.make(self._paths, release, fetcher, held, self._tools.variables):
            self._to("verified")
        else:
            archive = fetcher.fetch(release, self._paths.downloads)
            self._to("verified")
            stage.stage(self._paths, release, archive, self._tools.variables)

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
        changed = records.changed(changed, update=update, failures=failures, service=failure.reason)
        if not changed.safe_mode and (failures >= self._tools.settings.safe_mode_after or not failure.ok):
            wall = self._tools.clock.wall() // 1000
            changed = safemode.entered_by_itself(changed, update.reason, self._memory.boot, wall)
        self._to("rolled_back", base=changed)

    def _put_back(self) -> Result:
        """Run the old release again. Counted and limited: a failing hook may not loop here for ever."""
        previous = self._state.running
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

    # Standing by

    def _ensure(self) -> None:
        """See that the committed release runs: a device that was switched off starts with nothing running."""
        mark.safe_mode(self._paths, on=bool(self._state.safe_mode))
        if self._state.safe_mode:
            self._apply_safe_mode()
            return
        running = self._state.running
        if running is None:
            return
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
        if self._inspect(running.release, service):
            self._ensure()

    def _inspect(self, release: Release, service: str) -> bool:
        """Look for drift when it is time to, and put it right if that was ordered.

        Return whether content was put back, after which the release has to be started again.
        """
        now, interval = self._tools.clock.wall() // 1000, self._tools.settings.drift_seconds
        share = random.random()  # noqa: S311  (spreads load, guards nothing)
        if not inspection.is_due(self._state, now, interval):
            if bool(self._state.inspect_at) != bool(interval):
                self._save(inspect_at=inspection.planned(self._state, now, interval, share).inspect_at)
            return False
        found = left = drift.check(self._paths, release)
        content = False
        if found and self._state.inspect == "repair":
            fetcher = self._tools.fetcher(self._state.update.sources if self._state.update else [])
            before = self._state.previous.release.id if self._state.previous else None
            held = [each for each in (before, release.id) if each]
            content, problem = drift.repair(self._paths, release, found, fetcher, held)
            if problem:
                log.warning("not repaired: %s", problem)
            left = drift.check(self._paths, release)
        hook_says = [DriftItem(path=release.hook, what="service", expected="running", found=service[:128])]
        found, left = (items + hook_says * bool(service) for items in (found, left))
        planned = inspection.planned(self._state, now, interval, share)
        self._state = inspection.reported(planned, found, left, now, self._memory.boot)
        # What was loaded from a file that has been put back is still in memory.
        self._save(again=self._state.again or content)
        self._tools.tell()
        return content

    def _confirm(self, place: Place) -> Result:
        """Make the running release permanent: once committed, and in each boot, since bootloaders count boots.

        It is proven already: a hook that cannot confirm makes the device degraded, and is asked again at the next look.
        """
        mark = f"{place.release_id} {self._tools.boot}"
        if self._state.confirmed == mark:
            return Result(0, "")
        result = self._patient("confirm", place)
        if not result.ok:
            return Result(1, f"confirm: {result.reason}")
        self._save(confirmed=mark, reboots=0)
        return result

    def _reboot_for(self, result: Result) -> Result:
        """Restart the machine if the running release's hook asks for it. Limited: no device restarts without end."""
        if not result.restart:
            return result
        if self._state.reboots >= MAX_REBOOTS:
            return Result(1, f"the hook wants a restart again after {MAX_REBOOTS}: {result.reason}")
        self._save(reboots=self._state.reboots + 1)
        return Result(1, self._tools.restart())

    def _start(self, place: Place) -> Result:
        try:
            folder = self._paths.release(place.release_id)
            stage.render(self._paths, place.release_id, folder, self._tools.variables)
        except Stop as stop:
            return Result(1, stop.reason)
        return self._patient("activate", place)

    def _enter_safe_mode(self, base: State, reason: str) -> State:
        entry = f"own-{self._memory.boot[0]}-{base.serial + 1}"
        return safemode.entered(base, entry, reason, self._memory.boot, self._tools.clock.wall() // 1000)

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

    # Small tools

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

    def _changed(self, **fields: Any) -> State:
        """Return the state with `fields` of its update replaced."""
        return records.changed(self._state, update=records.changed(self._update, **fields))

    @property
    def _update(self) -> Update:
        update = self._state.update
        if update is None:
            raise LookupError("there is no update under way")
        return update

    def _hooks(self) -> Hooks:
        tools = self._tools
        return Hooks(
            self._paths,
            device_id=tools.device.device_id,
            role=self._memory.role,
            variables=tools.variables,
            seconds=tools.settings.hook_seconds,
        )

    def _place(self, previous: str | None = None) -> Place:
        before = self._state.running_id or "" if previous is None else previous
        return Place(self._update.release.id, self._update.release.hook, before)

    def _call(self, verb: Verb) -> Result:
        return self._patient(verb, self._place())

    def _patient(self, verb: Verb, place: Place) -> Result:
        settings = self._tools.settings
        hooks = self._hooks()
        return patiently(
            lambda: hooks.call(verb, place), seconds=settings.hook_seconds, pause=settings.later_seconds
        )

    def _save(self, **fields: Any) -> None:
        self._state = records.changed(self._state, **fields)
        state.save(self._paths, self._state)

    def _to(self, following: UpdateState, *, base: State | None = None, check: str = "") -> None:
        """Make one transition durable, with its report if it has one, and tell the parent."""
        self._state = transition.step(
            base or self._state, following, self._tools.clock.wall(), self._memory.boot, check=check
        )
        state.save(self._paths, self._state)
        self._tools.tell()
