"""What the agent reaches the world by, so that a test can stand in for any of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edge.config import Paths, Settings
from edge.identity.identity import Device
from edge.machine.clock import SystemClock
from edge.storage.spool import Spool


class Link(Protocol):
    """The connection to the broker, as the agent sees it."""

    def publish(self, topic: str, body: bytes, *, qos: int, retain: bool) -> int | None:
        """Send, and return the number under which the acknowledgement will come; None when not connected."""

    def subscribe(self, topics: list[tuple[str, int]]) -> None:
        """Ask for these topics."""

    def unsubscribe(self, topics: list[str]) -> None:
        """Ask for these topics no more."""


class Jobs(Protocol):
    """The update process, as the agent sees it."""

    @property
    def busy(self) -> bool:
        """Whether it runs."""

    def start(self) -> None:
        """Start it."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Everything the agent reaches the world by."""

    paths: Paths
    settings: Settings
    device: Device
    clock: SystemClock
    link: Link
    jobs: Jobs
    spool: Spool
    entropy: Callable[[int], bytes]
