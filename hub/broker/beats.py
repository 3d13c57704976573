"""The heartbeats of one device in a batch, added up as they come. Pure.

Adding up at once, and keeping only the sum, is what makes ingest fast: what a heartbeat was decoded into is still
in the processor's cache, and is gone before the next one comes. It is right as long as the heartbeats come one by
one in order, which they nearly always do. When they do not, or when the store has counted some of them already,
the batch is gone through again, heartbeat by heartbeat (`hub.broker.latest`).
"""

from __future__ import annotations

import msgspec

from hub.broker.arrivals import Uplink
from hub.telemetry.buckets import Bucket
from hub.telemetry.rollups import start_of
from topics.messages import Status


class Beats(msgspec.Struct, gc=False):
    """Consecutive heartbeats: from number `first` to that of `newest`, which came in `arrival` at `now_s`.

    One alone is not added up at all: `sums` are the buckets of several. `in_order` is False once a heartbeat came
    that does not follow the one before; from then on the sums mean nothing.
    """

    first: int
    newest: Status
    arrival: Uplink
    now_s: int
    sums: list[Bucket] | None = None
    in_order: bool = True

    def add(self, status: Status, arrival: Uplink, now_s: int) -> None:
        """Take in the next heartbeat, arrived at `now_s`."""
        newest = self.newest
        if status.seq != newest.seq + 1 or status.boot[0] != newest.boot[0]:
            self.in_order = False
            return
        if self.sums is None:
            self.sums = [Bucket(start_of(newest, self.now_s))]
            self.sums[0].add(newest)
        five = self.sums[-1]
        start = start_of(status, now_s)
        if start != five.start:
            five = Bucket(start)
            self.sums.append(five)
        five.add(status)
        self.newest = status
        self.arrival = arrival
