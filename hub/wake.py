"""How a commit, in whatever thread, wakes a task that looks after the store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Wake:
    """An event that any thread may set, while `heard` says that somebody listens; before and after, it is nothing."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event = asyncio.Event()

    def __call__(self) -> None:
        """Set it. Thread-safe and quick."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._event.set)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Listen on the running event loop."""
        self._loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            self._loop = None

    def set(self) -> None:
        """Set it from the event loop itself, at once."""
        self._event.set()

    def clear(self) -> None:
        """Forget what was said so far; what is said from now on counts."""
        self._event.clear()

    async def wait(self, seconds: float | None = None) -> None:
        """Return when it is set, or after `seconds`."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return
