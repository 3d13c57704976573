"""What commands and safe mode may ask of the agent; they know this and not the agent itself."""

from __future__ import annotations

from typing import Protocol

from edge.beliefs import Beliefs
from edge.storage.memory import Memory
from edge.storage.state import State
from topics.eligibility import Decision


class Acting(Protocol):
    """The agent, as the parts that carry out orders see it. Every change is durable when its call returns."""

    restart_wanted: bool

    @property
    def beliefs(self) -> Beliefs:
        """The signed documents believed now."""

    @property
    def memory(self) -> Memory:
        """What is kept beside the update's own state."""

    @property
    def state(self) -> State:
        """What runs, and the last update."""

    @property
    def crowded(self) -> bool:
        """Whether there is no room for the report of anything that would begin now."""

    @property
    def awaits_offer(self) -> bool:
        """Whether what the hub offers now may still be on its way."""

    @property
    def allows_chaos(self) -> bool:
        """Whether this device's own settings let an update be made to fail."""

    @property
    def now_ms(self) -> int:
        """The best bound for the time in ms."""

    @property
    def wall(self) -> int:
        """The device's clock in s."""

    def change_memory(self, changed: Memory) -> None:
        """Write memory down."""

    def change_state(self, changed: State) -> None:
        """Write state down."""

    def decide_now(self, retry: str | None = None) -> Decision:
        """Decide without acting; `retry` is a release that may be tried although it failed here."""

    def begin(self, decision: Decision, *, command: str = "", retry: bool = False) -> None:
        """Start the update that a decision allows."""

    def check_now(self) -> None:
        """Look at once whether what should run does."""

    def report_now(self) -> None:
        """Send a heartbeat at once."""
