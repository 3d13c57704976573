"""One simulated update: the updater's own transitions and decisions, with waits where it would work.

The real updater blocks while it downloads and probes; thousands of them in one thread may not, so this one yields
what it waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from edge import web
from edge.errors import Stop
from edge.identity import roots
from edge.simulate.fate import Fate
from edge.storage import records
from edge.storage.state import Update
from edge.updating import activate
from edge.updating.hooks import Hooks, Place, Result, Verb
from edge.updating.update import Updater
from edge.updating.work import Tools
from topics import lifecycle
from topics.documents import Release

Wait = float | Future[Any]
"""Seconds, or work of a helper thread, after which an update goes on."""


class WillingHooks(Hooks):
    """Hooks that do nothing, well."""

    def find(self, hook: str) -> Path:
        """See `Hooks.find`: any hook is there."""
        return self._paths.hooks / hook

    def call(self, verb: Verb, place: Place, *, items: Path | None = None) -> Result:
        """See `Hooks.call`."""
        return Result(0, "")


class Rehearsal(Updater):
    """An update in steps. `fate` says what becomes of a release, `go_dark` cuts the device off in mid-update.

    `helpers` do what would block: roots of trust are really fetched, and with `fetch` so are bundles, whose hashes
    are then checked. Unpacking stays simulated.
    """

    def __init__(
        self,
        tools: Tools,
        fate: Callable[[Release], Fate],
        go_dark: Callable[[Release], None],
        helpers: Executor,
        *,
        fetch: bool,
    ) -> None:
        super().__init__(tools)
        self._fate = fate
        self._go_dark = go_dark
        self._helpers = helpers
        self._fetch = fetch

    @property
    def begins(self) -> Update | None:
        """The update that this run starts, None when it goes on with one or only looks after the running release."""
        update = self._state.update
        return update if update is not None and update.state == "downloading" and update.starts == 1 else None

    def steps(self) -> Iterator[Wait]:
        """Finish or undo what is under way, as `Updater.run` does."""
        if roots.is_asked(self._paths):
            yield self._helpers.submit(roots.fetch, self._paths, self._tools.device.http_url, web.unchecked())
        update = self._state.update
        if update is not None:
            limit = self._tools.settings.max_activations
            match lifecycle.after_crash(update.state, activations=update.activations, max_activations=limit):
                case "start_over":
                    self._save(update=records.changed(update, state="downloading"))
                    yield from self._download(update.release)
                case "activate_again":
                    yield from self._swap(update.release)
                case "probe_again":
                    yield from self._prove(update.release)
                case _:
                    self._resume(update)
        self._tidy()
        self._ensure()

    def _download(self, release: Release) -> Iterator[Wait]:
        times = self._fate(release)
        yield times.download
        try:
            if self._fetch:
                fetcher = self._tools.fetcher(self._update.sources)
                fetched = self._helpers.submit(fetcher.fetch, release, self._paths.downloads)
                yield fetched
                fetched.result()
            self._to("verified")
            yield times.stage
            self._to("staged")
            self._ask_again(release)
        except Stop as stop:
            self._fail(stop)
            return
        yield from self._swap(release)

    def _swap(self, release: Release) -> Iterator[Wait]:
        times = self._fate(release)
        update = records.changed(self._update, activations=self._update.activations + 1)
        if update.state == "activating":
            self._save(update=update)
        else:
            self._to("activating", base=records.changed(self._state, update=update))
        if times.goes_dark:
            self._go_dark(release)
        yield times.activate
        activate.point(self._paths, release.id, self._state.running_id)
        self._to("probation")
        yield from self._prove(release)

    def _prove(self, release: Release) -> Iterator[Wait]:
        times = self._fate(release)
        yield times.probation
        if self._update.fail_by:
            self._roll_back(f"made to fail by command {self._update.fail_by}")
        elif times.fails:
            self._roll_back("probe: the simulated release fails on this device")
        else:
            self._commit()

    def _hooks(self) -> Hooks:
        tools = self._tools
        return WillingHooks(
            self._paths, device_id=tools.device.device_id, role=self._memory.role, variables={}, seconds=1
        )
