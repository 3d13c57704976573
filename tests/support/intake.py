"""An ingest slot in the test's own process, with clocks that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hub.broker.ingest import Ingest, IngestSettings
from hub.store import Store
from hub.times import now_ms
from tests.support.mosquitto import FLEET, Broker, wait_until
from tests.support.raw import Raw, publish
from tests.support.uplinks import topic


class Clocks:
    """A wall clock (ms) and a steady one (s). `pass_by` moves both, `jump` sets the wall clock."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.steady = 1_000.0

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.steady += seconds
        self.now += round(seconds * 1000)

    def jump(self, seconds: float) -> None:
        """Set the wall clock."""
        self.now += round(seconds * 1000)


@contextmanager
def intake(
    broker: Broker,
    store: Store,
    *,
    clocks: Clocks | None = None,
    on_commit: Callable[[Any], None] = lambda _summary: None,
    **settings: Any,
) -> Iterator[Ingest]:
    """A slot from its subscription on, with the hub's own settings where none are given."""
    options = IngestSettings(FLEET, broker.service_port, **settings)
    files = broker.service_files(options.name)
    if clocks is None:
        slot = Ingest(store, options, files, now=now_ms, on_commit=on_commit)
    else:
        moved = clocks
        slot = Ingest(
            store, options, files, now=lambda: moved.now, steady=lambda: moved.steady, on_commit=on_commit
        )
    slot.start()
    try:
        wait_until(lambda: slot.connections, what="the subscription")
        if clocks is not None:
            wait_until_observed(slot, clocks)
        yield slot
    finally:
        slot.stop()


def wait_until_observed(slot: Ingest, clocks: Clocks) -> None:
    """Return once observed time stands while time passes: the slot has caught up."""

    def stands() -> bool:
        before = slot.observed_since
        clocks.pass_by(0.001)
        return slot.observed_since == before

    wait_until(stands, what="observed time")


def let_pass(broker: Broker, slot: Ingest, clocks: Clocks, seconds: float) -> None:
    """Let time pass in which ingest has something to hear three times a minute, as from a fleet."""
    whole, rest = divmod(seconds, 20)
    for step in [20.0] * int(whole) + ([rest] if rest else []):
        clocks.pass_by(step)
        taken = slot.taken
        # Nobody's message is as good as any: it is taken in, and quarantined.
        publish(broker, "passer-by", [Raw(topic("passer-by", "status"), b"?")])
        wait_until(lambda: slot.taken > taken, what="a message taken in")  # noqa: B023
    wait_until_observed(slot, clocks)
