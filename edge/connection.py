"""The connection to the broker, as the agent sees it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PATIENCE: Final = 30.0
"""How long (s) what is retained may take to come; a slow line has it after seconds."""


class Connection:
    """Whether it stands, and what was heard on it; `unwritten` is what the disk has not taken yet, by topic.

    `now` is on the monotonic clock in s.
    """

    def __init__(self) -> None:
        self.online = False
        self.roots_asked: set[int] = set()
        self.unwritten: dict[str, bytes] = {}
        self._since = 0.0
        self._heard: set[str] = set()

    def begin(self, now: float) -> None:
        """It stands from now on, and nothing was heard on it."""
        self.online, self._since = True, now
        self._heard.clear()
        self.roots_asked.clear()

    def end(self) -> None:
        """It is gone; what was heard on it stays known."""
        self.online = False

    def hear(self, topic: str) -> None:
        """Something came on a topic."""
        self._heard.add(topic)

    def has_heard(self, topics: Iterable[str]) -> bool:
        """Whether something came on each of them."""
        return self._heard.issuperset(topics)

    def may_still_say(self, topic: str, now: float) -> bool:
        """Whether what is retained on a topic may still come: nothing did on this connection or the last, and none
        stands, or has for less than `PATIENCE`."""
        return topic not in self._heard and (not self.online or now < self._since + PATIENCE)
