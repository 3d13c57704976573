"""Runs `hub.telemetry.retention` beside everything else, without making ingest wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from hub.store import Store, StoreBusy, StoreFull
from hub.telemetry.retention import STEPS, Keep

SHARE: Final = 10
"""Of the time that the store could be written, thinning takes one part in `SHARE`."""

_log = structlog.get_logger("hub.retention")


class Thinning:
    """`run` does all that is due; it may be called from any thread, one at a time. `now` gives ms.

    `pause` waits that many seconds between two transactions and says whether it is time to end: by default until
    `stop`.
    """

    def __init__(
        self,
        store: Store,
        keep: Keep,
        now: Callable[[], int],
        pause: Callable[[float], bool] | None = None,
    ) -> None:
        self._store = store
        self._keep = keep
        self._now = now
        self._stopping = threading.Event()
        self._pause = pause or self._stopping.wait
        self.rows = dict.fromkeys(STEPS, 0)
        """Rows that each step changed since the start."""
        self.ended_at = 0
        """When (ms) everything that was due had last been done, 0 for not yet."""

    def stop(self) -> None:
        """End a `run` after its present transaction; later ones do nothing."""
        self._stopping.set()

    def run(self) -> dict[str, int]:
        """Do everything that is due now; return how many rows each step changed.

        While the store refuses, nothing is done; the next run goes on from there.
        """
        now = self._now()
        done = dict.fromkeys(STEPS, 0)
        try:
            for name in STEPS:
                done[name] = self._step(name, now)
                self.rows[name] += done[name]
            if not self._stopping.is_set():
                self.ended_at = self._now()
        except (StoreBusy, StoreFull) as error:
            _log.warning("retention waits", reason=str(error))
        if any(done.values()):
            _log.info(
                "thinned", **{name.replace(" ", "_").replace("-", "_"): n for name, n in done.items() if n}
            )
        return done

    def _step(self, name: str, now: int) -> int:
        rows = 0
        begin = time.monotonic()
        for changed in () if self._stopping.is_set() else STEPS[name](self._store, self._keep, now):
            rows += changed
            if self._pause((SHARE - 1) * (time.monotonic() - begin)):
                break
            begin = time.monotonic()
        return rows
