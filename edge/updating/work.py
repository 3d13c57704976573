"""What each step of the update process works with: the device's tools, and its state, durable after every change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge.config import Paths, Settings
from edge.download.fetch import Fetcher
from edge.errors import Stop
from edge.identity.identity import Device
from edge.machine.clock import SystemClock
from edge.storage import memory, records, state
from edge.storage.state import State, Update
from edge.updating import templates, transition
from edge.updating.hooks import Hooks, Place, Result, Verb, patiently
from edge.updating.secrets import Secrets
from edge.updating.templates import Values
from topics.messages import UpdateState


@dataclass(frozen=True, slots=True)
class Tools:
    """What the updater works with; `tell` wakes the parent. `boot` names this boot of the machine; `restart` restarts
    it, and returns why it did not."""

    paths: Paths
    settings: Settings
    device: Device
    variables: dict[str, str]
    secrets: Secrets
    clock: SystemClock
    fetcher: Callable[[list[str]], Fetcher]
    tell: Callable[[], None]
    boot: str
    restart: Callable[[], str]


class Work:
    """The state on disk and how it is changed. Raises `OSError`."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._paths = tools.paths
        self._state = state.load(tools.paths)
        self._memory = memory.need(tools.paths)

    def _changed(self, **fields: Any) -> State:
        """Return the state with `fields` of its update replaced."""
        return records.changed(self._state, update=records.changed(self._update, **fields))

    @property
    def _update(self) -> Update:
        update = self._state.update
        if update is None:
            raise LookupError("there is no update under way")
        return update

    @property
    def _values(self) -> Values:
        tools = self._tools
        return Values(templates.facts(tools.device, self._memory.role), tools.secrets, tools.variables)

    def _hooks(self) -> Hooks:
        tools = self._tools
        return Hooks(
            self._paths,
            device_id=tools.device.device_id,
            role=self._memory.role,
            variables=tools.variables,
            seconds=tools.settings.hook_seconds,
            secrets=tools.secrets,
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

    def _fill(self, release_id: str) -> str:
        """Fill a release's env templates anew: a secret may have changed. Return why they cannot be."""
        try:
            templates.render(self._paths, release_id, self._paths.release(release_id), self._values)
        except Stop as stop:
            return stop.reason
        return ""

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
