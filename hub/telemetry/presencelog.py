"""When a device was reachable: one entry for each change of its presence.

Rules, each a row of the tests:

1. A state that differs from that of the newest entry is a new entry.
2. The same state again (a device that reconnects) extends the newest entry: `times` counts, and `last_at`, session
   and boot are those of the last time. A broker that restarts so adds no entry for any of its devices.
3. A device that wakes, reports and sleeps again by its timer alternates between `online` and `sleeping`; each extends
   the entry of its kind when the two are the newest. Otherwise a device that wakes every five minutes would fill the
   log with what is no news.
4. Nothing else is put together: every time that a device went offline stands for itself.
5. A device has at most `MOST` entries; the oldest go first.

The newest is the one that was written last, whatever the hub's clock did meanwhile. An entry never changes its `at`,
so that a list of them can be read page by page while devices come and go.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from hub.store import Row, Tx

MOST: Final = 100
State = Literal["online", "sleeping", "offline"]
Reason = Literal["connected", "sleeping", "disconnect", "will", "missed_heartbeats", "heard"]
"""Why: `disconnect` is a goodbye in good order, `will` the broker's word that the connection broke, `missed_heartbeats`
the hub's own conclusion, `heard` its end."""
_REGULAR: Final = frozenset({"online", "sleeping"})


class Entry(NamedTuple):
    """A change. `session` counts the connections of a start (`boot`); `next_wake` in s, 0 for none."""

    state: State
    reason: Reason
    boot: int
    session: int
    next_wake: int = 0


def extends(newest: list[Row], state: State) -> int | None:
    """Return the id of the entry that `state` extends, None when it is a new one. `newest` are the last two. Pure."""
    if not newest:
        return None
    if newest[0]["state"] == state:
        return int(newest[0]["id"])
    if len(newest) > 1 and newest[1]["state"] == state and {state, newest[0]["state"]} == _REGULAR:
        return int(newest[1]["id"])
    return None


def put(tx: Tx, entries: list[tuple[int, Entry]], now: int) -> None:
    """Write changes, each with its device's key, one for each device; `now` is in ms."""
    new: list[dict[str, Any]] = []
    again: list[dict[str, Any]] = []
    for key, entry in entries:
        row = {"key": key, "now": now, **entry._asdict()}
        known = extends(tx.all(_NEWEST, {"key": key}), entry.state)
        if known is None:
            new.append(row)
        else:
            again.append({**row, "id": known})
    tx.executemany(_PUT, new)
    tx.executemany(_EXTEND, again)
    tx.executemany(_CUT, [{"key": row["key"], "most": MOST} for row in new])


_NEWEST: Final = """
SELECT id, state FROM presence_log WHERE device_key = :key ORDER BY id DESC LIMIT 2
"""
_PUT: Final = """
INSERT INTO presence_log (device_key, at, state, reason, boot, session, next_wake, last_at, times)
VALUES (:key, :now, :state, :reason, :boot, :session, :next_wake, :now, 1)
"""
_EXTEND: Final = """
UPDATE presence_log SET boot = :boot, session = :session, next_wake = :next_wake, last_at = :now, times = times + 1
WHERE id = :id
"""
_CUT: Final = """
DELETE FROM presence_log WHERE id IN (
    SELECT id FROM presence_log WHERE device_key = :key ORDER BY id DESC LIMIT 1000 OFFSET :most)
"""
