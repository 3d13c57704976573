"""The state directory in a technician's hands: no agent runs meanwhile, and what was under way is brought to an end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from edge import config
from edge.beliefs import Beliefs
from edge.byhand import rules
from edge.config import Paths
from edge.errors import NotReady, Refused
from edge.identity.identity import Identity
from edge.machine import clock, facts
from edge.machine.clock import SystemClock
from edge.resident import hold
from edge.storage import anchor, disk, memory, records, state
from edge.storage.ledger import ENDED
from edge.storage.memory import Memory
from edge.storage.state import ByHand, State
from edge.updating import attempts, child, transition
from topics.documents import Release
from topics.eligibility import Decision, Facts
from topics.trust import TrustState

UNCHANGED = ("downloading", "verified", "staged")


class Session:
    """One device while its agent is not running. Methods raise `EdgeError` and `OSError`.

    Reports stay in the outbox of `state`; the agent takes them into its spool when it starts.
    """

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self._device = Identity(paths).device
        self._settings = config.load_settings(paths.root)
        # Said before anything is begun: a release would fail for what these files say.
        config.load_variables(paths.root)
        self._clock = SystemClock()
        self.memory: Memory = anchor.need(paths, self._device.fleet)
        self.state: State = state.load(paths)
        memory.save(paths, self.memory)

    @property
    def wall(self) -> int:
        """The device's clock in s."""
        return self._clock.wall() // 1000

    def believe(self, trusted: TrustState) -> None:
        """Make what is trusted durable."""
        self.memory = records.changed(self.memory, trust=trusted)
        memory.save(self.paths, self.memory)
        anchor.keep(self.paths, self.memory)

    def change(self, changed: State) -> None:
        """Make a new state durable."""
        state.save(self.paths, changed)
        self.state = changed

    def work(self) -> None:
        """Be the update process: finish what `state` says, and see that what should run does."""
        # There is no network to ask for roots on; the agent asks again at its next connection.
        disk.remove(self.paths.wanted_roots / "after")
        code = child.run(self.paths, tell=None, parent=None)
        self.state = state.load(self.paths)
        if code:
            raise NotReady(f"the disk of {self.paths.root} refuses; make room and give the command again")

    def finish(self) -> None:
        """Bring an update that is under way to its end; one that has changed nothing yet gives way."""
        update = self.state.update
        if update is None or update.state in ENDED:
            return
        if update.state in UNCHANGED:
            # Ordered: the release is not at fault, and is taken up again when the hub still wants it.
            given_up = records.changed(update, reason="gave way to a technician", cause="ordered")
            base = records.changed(self.state, update=given_up)
            self.change(transition.step(base, "failed", self._clock.wall(), self.memory.boot))
        self.work()

    def judge(self, release: Release, *, older: bool) -> tuple[Decision, Facts]:
        """Return whether this device may take `release`, and the facts that this was judged by."""
        own = facts.of(self._device, self._settings, Beliefs(self.memory), self.state, retry=release.id)
        now = self.memory.trust.time(clock.judge(self.memory.trust, self._clock.wall()))
        return rules.judge(self.memory.trust, own, release, now, older=older), own

    def take(self, release: Release, by_hand: ByHand) -> None:
        """Carry an update to `release` through; raises `Refused` when it does not end as committed."""
        begun = attempts.by_hand(self.state, self.memory, release, by_hand, self._clock.wall())
        self.change(begun)
        self.work()
        update = self.state.update
        if update is None or update.state != "committed":
            reason = f"{update.state.replace('_', ' ')}: {update.reason}" if update else "gone"
            raise Refused(f"{release.id} {reason}; {self._left()}")

    def _left(self) -> str:
        if self.state.safe_mode:
            return "the device is in safe mode; end it with flaghoist-edge leave-safe-mode, or bring another release"
        return f"{self.state.running_id or 'nothing'} runs"


@contextlib.contextmanager
def alone(paths: Paths) -> Iterator[Session]:
    """Hold the state directory. Raises `NotReady` when an agent does, and when the device is not enrolled."""
    Identity(paths)
    paths.make()
    lock = hold(paths.root / "lock")
    try:
        yield Session(paths)
    finally:
        os.close(lock)
