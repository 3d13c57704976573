"""What the agent must not forget: its beliefs, the update's state, and reports on their way to the spool.

Every change is on disk before it is held here, so what is read here has always been made durable.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Final

from edge.beliefs import Beliefs
from edge.config import Paths
from edge.outbound import Outbound
from edge.outside import Jobs
from edge.storage import anchor, memory, outbox, records, state
from edge.storage.memory import Memory
from edge.storage.state import State, Update

ENDED: Final = ("committed", "failed", "rolled_back", "refused")

log = logging.getLogger("flaghoist")


class Ledger:
    """Holds `beliefs` and `state`. Methods that write raise `OSError`, unless they say otherwise."""

    def __init__(self, paths: Paths, held: Beliefs, outbound: Outbound, jobs: Jobs) -> None:
        self._paths = paths
        self._beliefs = held
        self._state = state.load(paths)
        self._outbound = outbound
        self._jobs = jobs
        self._refused = ""

    @property
    def beliefs(self) -> Beliefs:
        """What is believed, opened."""
        return self._beliefs

    @property
    def memory(self) -> Memory:
        """What is believed and done."""
        return self._beliefs.memory

    @property
    def state(self) -> State:
        """The update's state."""
        return self._state

    @property
    def under_way(self) -> Update | None:
        """The update that has not ended."""
        current = self._state.update
        return current if current is not None and current.state not in ENDED else None

    @property
    def refused(self) -> str:
        """Why the disk took nothing at the last try, "" when it did."""
        return self._refused

    @property
    def crowded(self) -> bool:
        """Whether so many reports wait that nothing may begin whose end would have to be reported."""
        return outbox.is_full(self.memory.outbox) or outbox.is_full(self._state.outbox)

    def believe(self, held: Beliefs) -> None:
        """Make new beliefs durable."""
        with self._writing():
            memory.save(self._paths, held.memory)
            anchor.keep(self._paths, held.memory)
        self._beliefs = held

    def count_connection(self) -> None:
        """Count a connection. Durable where the disk lets it: one that is full must not keep the device from being
        reached, and the next change that it takes holds the count as well. Raises nothing of its own."""
        counted = records.changed(self.memory, session=self.memory.session + 1)
        self._beliefs = Beliefs(counted, self._beliefs.manifest, self._beliefs.desired)
        with contextlib.suppress(OSError):
            self.believe(self._beliefs)

    def remember(self, changed: Memory) -> None:
        """Make a new memory durable, the documents staying as they are, and take up its reports."""
        self.believe(Beliefs(changed, self._beliefs.manifest, self._beliefs.desired))
        self.drain()

    def advance(self, changed: State) -> None:
        """Make a new state durable and take up its reports; only while no update process runs."""
        with self._writing():
            state.save(self._paths, changed)
        self._state = changed
        self.drain()

    def count_start(self) -> None:
        """Count a start of the update process, before it starts, if it has an update to carry on."""
        if self.under_way is not None:
            counted = records.changed(self.under_way, starts=self.under_way.starts + 1)
            self.advance(records.changed(self._state, update=counted))

    def reread(self) -> None:
        """Take over the state that the update process has written, and its reports. Raises nothing of its own."""
        self._state = state.load(self._paths)
        self.drain()

    def drain(self) -> None:
        """Move reports from the outboxes to the spool; a full disk leaves them where they are.

        What the disk refused before is tried again, also to know whether it takes anything by now.
        """
        try:
            if self._refused:
                self.believe(self._beliefs)
            held = self.memory
            if held.outbox and self._outbound.take(f"memory:{held.id}", held.outbox):
                emptied = records.changed(held, outbox=[])
                self.believe(Beliefs(emptied, self._beliefs.manifest, self._beliefs.desired))
            # The update process writes `state` while it runs; the spool takes each report once all the same.
            taken = self._state.outbox and self._outbound.take(f"update:{self._state.id}", self._state.outbox)
            if taken and not self._jobs.busy:
                cleared = records.changed(self._state, outbox=[])
                with self._writing():
                    state.save(self._paths, cleared)
                self._state = cleared
        except OSError as error:
            log.warning("nothing can be written down: %s; reports are kept for later", error.strerror)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._refused = error.strerror or str(error)
            raise
        self._refused = ""
