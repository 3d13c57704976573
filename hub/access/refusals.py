"""Refused logins in the audit: each while they are few, and how many more there were while they are many."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from hub.caller import Caller
from hub.errors import RequestError
from hub.events import Event, append
from hub.store import Store

MOST: Final = 20
"""Events a minute. Anybody may fail to log in, as often as they like."""
STRANGER: Final = "stranger"
"""The actor of a login that nobody has finished."""


class Refusals:
    """Tells of refused logins; thread-safe. `clock` gives ms."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = 0
        self._told = 0
        self._untold = 0

    def tell(self, error: RequestError, request_id: str) -> None:
        """Write an event, or count it for the next one."""
        now = self._clock()
        with self._lock:
            if now // 60_000 != self._minute:
                self._minute, self._told = now // 60_000, 0
            if self._told >= MOST:
                self._untold += 1
                return
            self._told += 1
            untold, self._untold = self._untold, 0
        body: dict[str, Any] = {"rule": error.rule, "untold": untold, **error.more}
        with self._store.write() as tx:
            event = Event(kind="login.refused", reason=error.detail, body=body)
            append(tx, event, Caller(STRANGER, "public", request_id), now)
