"""How often each heartbeat of a `tests.support.senders.Sender` is in the rollups of a store."""

from __future__ import annotations

from collections import Counter

from hub.store import Store
from hub.telemetry import buckets, rollups, slots, tiers
from tests.support.senders import PER_BUCKET
from tests.support.uplinks import rows


def counted(store: Store, device_id: str, begin: int) -> Counter[int]:
    """Return how often each heartbeat of a device was counted, by its ordinal number; `begin` (s) is the first one's.

    Fails when the tiers contradict each other.
    """
    (latest,) = rows(
        store,
        "SELECT device_key, rollup FROM device_latest JOIN devices ON devices.key = device_key "
        "WHERE device_id = :id",
        id=device_id,
    )
    key, still_open = latest["device_key"], rollups.unpack(latest["rollup"])
    closed = [
        tiers.bucket_of(row)
        for row in rows(store, "SELECT * FROM rollups_5m WHERE device_key = :key", key=key)
    ]
    found: Counter[int] = Counter()
    for bucket in (*closed, still_open.five):
        first = (bucket.start - begin) // 300 * PER_BUCKET
        digits = f"{int(bucket.memory_sum):x}"[::-1]
        times = {first + place: int(digit, 16) for place, digit in enumerate(digits) if digit != "0"}
        assert bucket.count == sum(times.values())
        found.update(times)
    hours = [
        slot.heartbeats
        for row in rows(store, "SELECT hours FROM rollups_1h WHERE device_key = :key", key=key)
        for slot in slots.unpack(row["hours"])
    ]
    in_hours = sum(hours) + buckets.unpack(still_open.hour).count
    assert in_hours + still_open.five.count == found.total()
    return found
