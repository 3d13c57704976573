"""What exactly one process does, as soon as anything was committed: hold back devices in trouble, judge rollouts and
count their shares, seal events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from hub import events
from hub.deployment import shares
from hub.deployment.judge import judge
from hub.deployment.service import Deployment
from hub.recovery.watch import Watch
from hub.store import Store, StoreBusy, StoreFull
from hub.times import now_ms
from hub.wake import Wake

PAUSE_S: Final = 0.1
"""Least time between two looks, so that a busy ingest costs ten looks a second and a halt a tenth of one."""
_log = structlog.get_logger("hub.leader")


class Leader:
    """Runs until cancelled. `observed_since` is when ingest last caught up (ms)."""

    def __init__(
        self, store: Store, deployment: Deployment, recovery: Watch, observed_since: Callable[[], int]
    ) -> None:
        self._store = store
        self._deployment = deployment
        self._recovery = recovery
        self._observed_since = observed_since
        self.wake = Wake()
        """To be called when something was committed, or time has passed."""
        self.problem = ""
        """One sentence while the leader cannot work, else empty."""

    async def run(self) -> None:
        """Look after every wake."""
        with self.wake.heard():
            await self._look_again_and_again()

    async def _look_again_and_again(self) -> None:
        while True:
            self.wake.clear()
            try:
                await asyncio.to_thread(self.look)
                self.problem = ""
            except (StoreBusy, StoreFull) as error:
                self.problem = f"the store cannot be written: {error}"
                _log.warning("leader waits", error=str(error))
                self.wake.set()
            await asyncio.sleep(PAUSE_S)
            await self.wake.wait()

    def look(self) -> None:
        """See who is in trouble, judge what is under way without them, count a slice, then seal what was written."""
        self._recovery.look()
        changed = judge(self._store, self._deployment, now=now_ms(), observed_since=self._observed_since())
        for release_id in changed:
            _log.info("rollout changed by rule", release=release_id)
        if shares.count(self._store):
            self.wake.set()
        with self._store.read() as tx:
            unsealed = tx.one("SELECT id FROM events WHERE n IS NULL LIMIT 1")
        if unsealed:
            with self._store.write() as tx:
                sealed = events.newest(tx, events.seal(tx))
            for row in sealed:
                _log.info(row["kind"], **events.ids(row))
