"""A device in memory: the agent's own trust, decision, lifecycle and reports, without files, network or hooks."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from edge import beliefs, heartbeat
from edge.beliefs import Beliefs
from edge.config import Settings
from edge.identity.identity import Device as Identity
from edge.machine import facts
from edge.storage import records, state
from edge.storage.memory import Memory
from edge.storage.state import Installed, State, Update
from edge.updating import attempts, transition
from hub.broker.outcomes import ORDERED
from tests.topics import kit
from topics import codec, lifecycle, trust
from topics.channels import UPLINK_LIMIT
from topics.eligibility import Decision
from topics.messages import Drift, DriftItem, Probes, Recovery, Status, UpdateResult, UpdateState
from topics.trust import Clock

Aftermath = Literal["drift", "repaired", "safe_mode", "ordered"]
"""What is found after a success: differences, none any more, a stay in safe mode of its own accord or by order."""
End = Literal["committed", "failed", "failed_here", "rolled_back"]
"""How an update ends: `failed` may be tried again at once, `failed_here` and `rolled_back` may not."""
SERIES = "0" * 16
SPOOL = "0a1b2c3d"


class SimDevice:
    """One device. `spool` holds every report it ever made, in order; what was heard of it is the test's business."""

    def __init__(self, device_id: str, segment: str, hardware: str) -> None:
        root = kit.signed_root()
        memory = Memory(
            id=SERIES,
            trust=trust.pin_root(root, trust.sha256(root)),
            role="kiosk",
            segment=segment,
            boot=(1, "0" * 8),
        )
        self.identity = Identity(
            fleet=kit.FLEET,
            device_id=device_id,
            mqtt_host="",
            mqtt_port=1,
            http_url="",
            hardware=hardware,
        )
        self.id = device_id
        self.beliefs = Beliefs(memory)
        self.state = State(id=SERIES)
        self.spool: list[UpdateResult] = []
        self.told = 0
        self.beats = 0

    @property
    def update(self) -> Update | None:
        """The update under way."""
        update = self.state.update
        return update if update is not None and update.state not in lifecycle.TERMINAL else None

    def topics(self) -> tuple[str, str]:
        """Its desired state's topic, and the manifest's that it listens to now."""
        _, manifest, desired = beliefs.topics_of(self.beliefs.memory, self.id)
        return desired, manifest

    def hear(self, topic: str, body: bytes, now: int) -> str:
        """Take a retained message; return the check that refused it, "" if it was believed."""
        taken = beliefs.take(self.beliefs, self.id, topic, body, Clock(now, True))
        if isinstance(taken, beliefs.Refusal):
            return taken.check
        self.beliefs = taken
        return ""

    def restart(self, now: int) -> None:
        """Lose everything that does not stand on its disk."""
        self.beliefs = beliefs.reopen(self.beliefs.memory, self.id, Clock(now, True))

    def decide(self, now: int, retry: str | None = None) -> Decision:
        """What it should do at this moment; `retry` is the release that a `redeploy` names."""
        own = facts.of(self.identity, Settings(), self.beliefs, self.state, retry=retry)
        return facts.verdict(self.beliefs, own, Clock(now, True))

    def start(self, decision: Decision, now: int) -> None:
        """Begin what was decided."""
        self._become(attempts.begun(self.state, self.beliefs, decision, now))

    def activate(self, now: int, retry: str | None = None) -> bool:
        """Download and stage; ask again, and activate if it is still wanted. Return whether it was."""
        self._step("verified", now)
        self._step("staged", now)
        decision, update = self.decide(now, retry), self.update
        assert update is not None
        if decision.eligible and decision.release is not None and decision.release.id == update.release.id:
            self._step("activating", now)
            return True
        stopped = records.changed(update, cause="ordered", reason=decision.reason)
        self.state = records.changed(self.state, update=stopped)
        self._step("failed", now)
        return False

    def end(self, how: End, now: int, retry: str | None = None) -> None:
        """End the update that is under way, wherever it stands."""
        update = self.update
        assert update is not None
        if how in ("failed", "failed_here") and update.state == "downloading":
            failed = records.changed(update, cause="own")
            self.state = records.changed(self.state, update=failed)
            if how == "failed_here":
                self.state = state.with_failed(self.state, update.release.id)
            self._step("failed", now)
            return
        if update.state == "downloading" and not self.activate(now, retry):
            return
        if how == "committed":
            self._step("probation", now)
            self.state = records.changed(
                self.state,
                running=Installed(update.release),
                previous=self.state.running or self.state.previous,
                failed=[known for known in self.state.failed if known != update.release.id],
            )
            self._step("committed", now)
        else:
            self._step("rolling_back", now)
            self.state = state.with_failed(self.state, update.release.id)
            self._step("rolled_back", now)

    def found(self, what: Aftermath, now: int) -> Drift | Recovery | None:
        """Return its report of what is found on the release that it runs; None while it runs none."""
        if self.state.running is None:
            return None
        self.told += 1
        common: dict[str, Any] = {
            "boot": self.beliefs.memory.boot,
            "at": now // 1000,
            "spool": SPOOL,
            "n": self.told,
            "release": self.state.running.release.id,
        }
        if what in ("drift", "repaired"):
            items = [DriftItem(path="files/a", what="hash")] if what == "drift" else []
            return Drift(**common, items=items)
        entry = f"{ORDERED}1" if what == "ordered" else "own-1"
        return Recovery(**common, state="entered", entry=entry)

    def status(self, now: int) -> Status:
        """Its next heartbeat."""
        self.beats += 1
        return heartbeat.build(
            self.identity,
            Settings(),
            self.beliefs,
            self.state,
            self.decide(now),
            readings=Probes(),
            seq=self.beats,
            clock=Clock(now, True),
            spool_depth=0,
        )

    def _step(self, following: UpdateState, now: int) -> None:
        self._become(transition.step(self.state, following, now, self.beliefs.memory.boot))

    def _become(self, changed: State) -> None:
        """Move the reports of `changed` into the spool, which numbers them."""
        for pending in changed.outbox:
            report = codec.decode(pending.body, UpdateResult, limit=UPLINK_LIMIT)
            self.told += 1
            numbered = msgspec.structs.replace(report, spool=SPOOL, n=self.told)
            self.spool.append(numbered)
        self.state = records.changed(changed, outbox=[])
