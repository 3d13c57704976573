"""How many devices a share of a segment takes in, exactly, whatever its size.

Who is in a share is told by a hash of each device's id. Up to `DIRECTLY` devices that is done whenever it is asked.
Of more, the leader counts the present share once, slice by slice, and keeps the count: devices that come, go or move
meanwhile and afterwards are written down by triggers, and taken into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hub.deployment.policy import WHOLE, SegmentPolicy
from hub.deployment.rules import ACTIVE, shares_above
from hub.store import Row, Store, Tx
from topics.eligibility import bucket, takes_candidate

DIRECTLY: Final = 10_000
"""Devices of a segment, and changes since the count, that a request may look through."""
SLICE: Final = 10_000
"""Devices counted in one transaction: it holds the database for some 20 ms."""

_REGISTERED: Final = (
    "SELECT device_id FROM devices WHERE role = :role AND segment = :segment AND revoked_at IS NULL"
)
_PARTS: Final = f"""
SELECT releases.id, releases.role, releases.segment, releases.basis_points FROM releases
JOIN segment_sizes ON segment_sizes.role = releases.role AND segment_sizes.segment = releases.segment
WHERE releases.state IN {ACTIVE!r} AND releases.basis_points < :whole AND segment_sizes.devices > :directly
"""  # noqa: S608  (our own constants)


def expected(tx: Tx, release_id: str, role: str, segment: str, share: int) -> tuple[int, bool]:
    """Return how many registered devices of the segment the share takes in, and whether that is exact.

    Devices in quarantine are not among them. It is not exact, but reckoned from the size of the segment, only until
    a share of more than `DIRECTLY` devices has been counted: some seconds for a million.
    """
    if share == 0:
        return 0, True
    where = {"role": role, "segment": segment}
    size = _size(tx, role, segment)
    held = [str(row["device_id"]) for row in tx.all(f"{_REGISTERED} AND quarantine_rule <> ''", where)]
    if share == WHOLE:
        return size - len(held), True
    reached = sum(takes_candidate(release_id, device_id, share) for device_id in held)
    if size <= DIRECTLY:
        everybody = (row["device_id"] for row in tx.all(_REGISTERED, where))
        return sum(takes_candidate(release_id, device_id, share) for device_id in everybody) - reached, True
    row = tx.one("SELECT * FROM shares WHERE role = :role AND segment = :segment", where)
    if row is not None and row["is_counted"] and _counts(row, release_id, share):
        changes = _changes(tx, role, segment)
        if len(changes) <= DIRECTLY:
            return row["devices"] + _sum(changes, release_id, share) - reached, True
    return max(0, round(size * share / WHOLE) - reached), False


def next_share(tx: Tx, release: Row, segment: str, policy: SegmentPolicy) -> int:
    """Return the share (basis points) that a release goes to next in a segment by the steps of its policy.

    A step that would take in no further device proves nothing, and is passed over; the last, the whole segment, is not.
    """
    present = int(release["basis_points"]) if release["segment"] == segment else 0
    steps = shares_above(policy, present)
    return next((step for step in steps[:-1] if _takes_in(tx, release, segment, present, step)), steps[-1])


def is_empty(tx: Tx, release: Row) -> bool:
    """Whether the present share of a release takes in nobody, as when all in it were moved or deleted."""
    return not _takes_in(tx, release, release["segment"], 0, release["basis_points"])


def _takes_in(tx: Tx, release: Row, segment: str, above: int, share: int) -> bool:
    """Whether any device is in a share and not in the one before; ends at the first that is found."""
    return any(
        above <= bucket(release["id"], device_id) < share
        for page in _pages(tx, release["role"], segment)
        for device_id in page
    )


def _pages(tx: Tx, role: str, segment: str, after: str = "") -> Iterator[list[str]]:
    while True:
        rows = tx.all(
            f"{_REGISTERED} AND quarantine_rule = '' AND device_id > :after ORDER BY device_id LIMIT :limit",
            {"role": role, "segment": segment, "after": after, "limit": 1_000},
        )
        if not rows:
            return
        after = rows[-1]["device_id"]
        yield [row["device_id"] for row in rows]


def count(store: Store) -> bool:
    """Count one slice of a share that is not counted yet, or take in what changed; return whether more is to be done.

    Run by the leader. Reads alone as long as there is nothing to do.
    """
    with store.read() as tx:
        asked = _asked(tx)
        kept = {(row["role"], row["segment"]): row for row in tx.all("SELECT * FROM shares")}
        work = next(
            (one for one in asked if _needs_work(tx, kept.get((one["role"], one["segment"])), one)), None
        )
        stale = kept.keys() - {(one["role"], one["segment"]) for one in asked}
    if work is None and not stale:
        return False
    with store.write() as tx:
        for role, segment in stale:
            _forget(tx, role, segment)
        if work is not None:
            _count_slice(tx, work)
    return True


def _asked(tx: Tx) -> list[Row]:
    """Return the releases under way whose present share is a part of a large segment."""
    return tx.all(_PARTS, {"whole": WHOLE, "directly": DIRECTLY})


def _needs_work(tx: Tx, row: Row | None, asked: Row) -> bool:
    if row is None or not row["is_counted"] or not _counts(row, asked["id"], asked["basis_points"]):
        return True
    found = tx.one(
        "SELECT COUNT(*) AS changes FROM share_changes WHERE role = :role AND segment = :segment",
        {"role": asked["role"], "segment": asked["segment"]},
    )
    # A few are looked through by who asks; that costs less than a transaction for each device that registers.
    return found is not None and found["changes"] > DIRECTLY // 10


def _count_slice(tx: Tx, asked: Row) -> None:
    where = {"role": asked["role"], "segment": asked["segment"]}
    row = tx.one("SELECT * FROM shares WHERE role = :role AND segment = :segment", where)
    if row is None or not _counts(row, asked["id"], asked["basis_points"]):
        _forget(tx, asked["role"], asked["segment"])
        tx.execute(
            "INSERT INTO shares (role, segment, release_id, basis_points) VALUES (:role, :segment, :id, :share)",
            {**where, "id": asked["id"], "share": asked["basis_points"]},
        )
        done, devices, is_counted = "", 0, False
    else:
        done, devices, is_counted = row["counted_to"], row["devices"], bool(row["is_counted"])
    # What changed beyond the slices counted so far is seen by the slice that comes to it.
    changes = _changes(tx, asked["role"], asked["segment"])
    known = changes if is_counted else [(name, change) for name, change in changes if name <= done]
    devices += _sum(known, asked["id"], asked["basis_points"])
    tx.execute("DELETE FROM share_changes WHERE role = :role AND segment = :segment", where)
    if not is_counted:
        rows = tx.all(
            f"{_REGISTERED} AND device_id > :done ORDER BY device_id LIMIT :limit",
            {**where, "done": done, "limit": SLICE},
        )
        devices += sum(takes_candidate(asked["id"], one["device_id"], asked["basis_points"]) for one in rows)
        is_counted = len(rows) < SLICE
        done = rows[-1]["device_id"] if rows else done
    tx.execute(
        "UPDATE shares SET counted_to = :done, devices = :devices, is_counted = :is_counted "
        "WHERE role = :role AND segment = :segment",
        {**where, "done": done, "devices": devices, "is_counted": int(is_counted)},
    )


def _forget(tx: Tx, role: str, segment: str) -> None:
    for table in ("shares", "share_changes"):
        tx.execute(
            f"DELETE FROM {table} WHERE role = :role AND segment = :segment",  # noqa: S608  (our own constants)
            {"role": role, "segment": segment},
        )


def _size(tx: Tx, role: str, segment: str) -> int:
    row = tx.one(
        "SELECT devices FROM segment_sizes WHERE role = :role AND segment = :segment",
        {"role": role, "segment": segment},
    )
    return int(row["devices"]) if row else 0


def _changes(tx: Tx, role: str, segment: str) -> list[tuple[str, int]]:
    rows = tx.all(
        "SELECT device_id, change FROM share_changes WHERE role = :role AND segment = :segment",
        {"role": role, "segment": segment},
    )
    return [(row["device_id"], row["change"]) for row in rows]


def _sum(changes: list[tuple[str, int]], release_id: str, share: int) -> int:
    return sum(change for device_id, change in changes if takes_candidate(release_id, device_id, share))


def _counts(row: Row, release_id: str, share: int) -> bool:
    return bool(row["release_id"] == release_id and row["basis_points"] == share)
