"""Writing presences: the newest becomes the device's row, and a change goes into its log.

Of several within one batch only the last is known here; what lies between was over within a moment.
"""

from __future__ import annotations

from typing import Any, Final

from hub.broker.devices import Device
from hub.store import Row, Tx
from hub.telemetry import presencelog
from hub.telemetry.presencelog import Entry, Reason
from topics.messages import Presence

_CHUNK: Final = 400


def put(tx: Tx, presences: list[tuple[Device, Presence]], now: int) -> None:
    """Take in presences, one for each device; `now` is in ms."""
    known = _known(tx, [device.key for device, _ in presences])
    rows: list[dict[str, Any]] = []
    entries: list[tuple[int, Entry]] = []
    for device, presence in presences:
        before = known.get(device.key)
        if before is not None and not is_news(before, presence):
            continue
        rows.append(_row(device, presence, now))
        if before is None or is_change(before, presence):
            entries.append((device.key, _entry(presence)))
    if rows:
        tx.executemany(_PUT, rows)
        presencelog.put(tx, entries, now)


def is_news(before: Row, presence: Presence) -> bool:
    """Whether `presence` is not older than the device's row, and says something else. Pure.

    A last will of an older connection is older. What the broker retained and hands over again says the same.
    """
    order, known = (presence.boot[0], presence.session), (before["boot"], before["session"])
    if order != known:
        return order > known
    said = (presence.state, presence.at * 1000, presence.next_wake)
    return said != (before["state"], before["at"], before["next_wake"])


def is_change(before: Row, presence: Presence) -> bool:
    """Whether news belong into the log: another state than people were shown, another connection or wake. Pure."""
    shown = "offline" if before["silent"] else before["state"]
    if presence.state == shown == "offline":
        return False  # the will of a device that had missed its heartbeats
    return bool(
        presence.state != shown
        or (presence.boot[0], presence.session) != (before["boot"], before["session"])
        or presence.next_wake != before["next_wake"]
    )


def _entry(presence: Presence) -> Entry:
    # An agent cannot know when its last will is going to be sent, so that one has no time.
    leaving: Reason = "disconnect" if presence.at else "will"
    reasons: dict[str, Reason] = {"online": "connected", "sleeping": "sleeping", "offline": leaving}
    next_wake = presence.next_wake if presence.state == "sleeping" else 0
    return Entry(presence.state, reasons[presence.state], presence.boot[0], presence.session, next_wake)


def _row(device: Device, presence: Presence, now: int) -> dict[str, Any]:
    return {
        "device_key": device.key,
        "boot": presence.boot[0],
        "session": presence.session,
        "state": presence.state,
        "at": presence.at * 1000,
        "next_wake": presence.next_wake,
        "now": now,
    }


def _known(tx: Tx, keys: list[int]) -> dict[int, Row]:
    found: dict[int, Row] = {}
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        marks = ", ".join("?" * len(chunk))
        for row in tx.all(f"SELECT * FROM presence WHERE device_key IN ({marks})", chunk):  # noqa: S608  (marks only)
            found[row["device_key"]] = row
    return found


_PUT: Final = """
INSERT INTO presence (device_key, boot, session, state, at, next_wake, received_at, silent)
VALUES (:device_key, :boot, :session, :state, :at, :next_wake, :now, 0)
ON CONFLICT (device_key) DO UPDATE SET boot = excluded.boot, session = excluded.session, state = excluded.state,
    at = excluded.at, next_wake = excluded.next_wake, received_at = excluded.received_at, silent = 0
"""
