"""Watches who falls silent, and tells of devices that went offline or came back.

A device is silent when it has missed `SILENT_AFTER` heartbeats of its own `update_interval`, or has not come back that
long after the wake it announced, whatever the broker still retains of it. What the hub did not listen to is nobody's
silence: it counts from the moment at which ingest had caught up.

**Events.** Going offline and coming back are events on the device, so that they stand in the audit and reach whoever
follows it. But the audit is kept for good, and a broker or a network that fails takes a whole fleet offline and back
at once. So at most `MOST_EVENTS` a minute tell of single devices; beyond that one event a look tells how many there
were. The presence log, which is bounded and thinned, has every one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from hub.caller import rule
from hub.events import Event, append
from hub.presence import SILENT_AFTER
from hub.store import Row, Store, StoreBusy, StoreFull, Tx
from hub.telemetry import presencelog
from hub.telemetry.presencelog import Entry

MOST_EVENTS: Final = 60
MINUTE_MS: Final = 60_000
SHARE: Final = 20
"""Looking may take one part in `SHARE` of the time: in a fleet so large that it takes long, it is done less often."""
CHUNK: Final = 500
ENTRIES: Final = 20_000
"""Entries of the presence log that are looked through at once for events."""
_MARK: Final = "presence_told"
_CALLER: Final = rule("presence")


class Silence:
    """`look` is called again and again, by one thread at a time. `now` gives ms.

    `observed_since` gives when ingest last caught up (ms), or the present while it has not.
    """

    def __init__(self, store: Store, now: Callable[[], int], observed_since: Callable[[], int]) -> None:
        self._store = store
        self._now = now
        self._observed_since = observed_since
        self._minute = 0
        self._left = MOST_EVENTS
        self._rest_until = 0.0
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End a look after its present transaction; later ones do nothing."""
        self._stopping.set()

    def look_if_due(self) -> None:
        """Look, unless the last look took so long that it is too early."""
        begin = time.monotonic()
        if begin < self._rest_until:
            return
        try:
            self.look()
        except (StoreBusy, StoreFull):
            return  # the leader says so; the next look sees the same
        finally:
            self._rest_until = begin + SHARE * (time.monotonic() - begin)

    def look(self) -> None:
        """Note who fell silent and who was heard again, and write the events."""
        now = self._now()
        self._note(_SILENT, "silent", Entry("offline", "missed_heartbeats", 0, 0), now)
        self._note(_HEARD, "heard", Entry("online", "heard", 0, 0), now)
        if not self._stopping.is_set():
            self._tell(now)

    def _note(self, sql: str, what: str, entry: Entry, now: int) -> None:
        params = {"now": now, "observed": self._observed_since(), "after": -1, "limit": CHUNK}
        while not self._stopping.is_set():
            with self._store.read() as tx:
                keys = [row["key"] for row in tx.all(sql, {**params, "upto": 2**62})]
            if not keys:
                return
            with self._store.write() as tx:
                # Asked again under the lock, since a report may have come in meanwhile.
                rows = tx.all(sql, {**params, "upto": keys[-1]})
                _mark(tx, rows, what == "silent")
                presencelog.put(tx, [(row["key"], _entry(entry, row)) for row in rows], now)
            params["after"] = keys[-1]

    def _tell(self, now: int) -> None:
        with self._store.read() as tx:
            begin, end = _mark_of(tx), _last(tx)
            single, counts = self._changes(tx, begin, end, now)
        if begin == end:
            return
        with self._store.write() as tx:
            for row in single:
                append(tx, _event(row), _CALLER, now)
            if any(counts.values()):
                append(tx, Event(kind="device.presence_changed", body=counts), _CALLER, now)
            tx.execute(_PUT_MARK, {"key": _MARK, "value": str(end)})

    def _changes(self, tx: Tx, begin: int, end: int, now: int) -> tuple[list[Row], dict[str, int]]:
        """Return the changes that get an event each, and how many more there were of each kind."""
        if now // MINUTE_MS != self._minute:
            self._minute, self._left = now // MINUTE_MS, MOST_EVENTS
        single: list[Row] = []
        counts = {"offline": 0, "online": 0}
        for first in range(begin, end, ENTRIES):
            for row in tx.all(_CHANGES, {"after": first, "upto": min(end, first + ENTRIES)}):
                if self._left:
                    self._left -= 1
                    single.append(row)
                else:
                    counts["offline" if row["state"] == "offline" else "online"] += 1
        return single, counts


def _entry(entry: Entry, row: Row) -> Entry:
    state = entry.state if entry.state == "offline" else row["state"]
    return entry._replace(state=state, boot=row["boot"], session=row["session"], next_wake=row["next_wake"])


def _mark(tx: Tx, rows: list[Row], silent: bool) -> None:
    tx.executemany(
        _PUT_SILENT,
        [
            {name: row[name] for name in ("key", "boot", "session", "state", "next_wake")}
            | {"silent": int(silent)}
            for row in rows
        ],
    )


def _event(row: Row) -> Event:
    kind = "device.offline" if row["state"] == "offline" else "device.online"
    body: dict[str, Any] = {"boot": row["boot"], "session": row["session"]}
    return Event(kind=kind, device_id=row["device_id"], role=row["role"], reason=row["reason"], body=body)


def _mark_of(tx: Tx) -> int:
    row = tx.one("SELECT value FROM meta WHERE key = :key", {"key": _MARK})
    return int(row["value"]) if row else 0


def _last(tx: Tx) -> int:
    row = tx.one("SELECT COALESCE(MAX(id), 0) AS id FROM presence_log")
    return int(row["id"]) if row else 0


_GRACE: Final = f"{SILENT_AFTER * 1000} * devices.update_interval"
# The rule of hub.registry.rules.presence; a device that never said anything is none of this.
_QUIET: Final = f"""
    COALESCE(device_latest.received_at, 0) < :now - {_GRACE}
    AND COALESCE(presence.received_at, 0) < :now - {_GRACE}
    AND CASE WHEN presence.state = 'sleeping' THEN presence.next_wake * 1000 ELSE 0 END < :now - {_GRACE}
"""
_COLUMNS: Final = """
SELECT devices.key AS key, COALESCE(presence.boot, -1) AS boot, COALESCE(presence.session, 0) AS session,
    COALESCE(presence.state, 'online') AS state, COALESCE(presence.next_wake, 0) AS next_wake
"""
_SILENT: Final = f"""{_COLUMNS} FROM devices
LEFT JOIN device_latest ON device_latest.device_key = devices.key
LEFT JOIN presence ON presence.device_key = devices.key
WHERE devices.key > :after AND devices.key <= :upto AND devices.revoked_at IS NULL AND :observed < :now - {_GRACE}
    AND (device_latest.device_key IS NOT NULL OR presence.device_key IS NOT NULL)
    AND COALESCE(presence.state, 'online') <> 'offline' AND COALESCE(presence.silent, 0) = 0 AND {_QUIET}
ORDER BY devices.key LIMIT :limit
"""
_HEARD: Final = f"""{_COLUMNS} FROM presence JOIN devices ON devices.key = presence.device_key
LEFT JOIN device_latest ON device_latest.device_key = presence.device_key
WHERE presence.silent = 1 AND presence.device_key > :after AND presence.device_key <= :upto AND NOT ({_QUIET})
ORDER BY presence.device_key LIMIT :limit
"""
_PUT_SILENT: Final = """
INSERT INTO presence (device_key, boot, session, state, at, next_wake, received_at, silent)
VALUES (:key, :boot, :session, :state, 0, :next_wake, 0, :silent)
ON CONFLICT (device_key) DO UPDATE SET silent = excluded.silent
"""
_CHANGES: Final = """
SELECT devices.device_id, devices.role, newest.state, newest.reason, newest.boot, newest.session FROM (
    SELECT device_key, MIN(id) AS first, MAX(id) AS last FROM presence_log WHERE id > :after AND id <= :upto
    GROUP BY device_key) AS fresh
JOIN presence_log AS newest ON newest.id = fresh.last JOIN devices ON devices.key = fresh.device_key
LEFT JOIN presence_log AS before ON before.id = (
    SELECT MAX(id) FROM presence_log AS older
    WHERE older.device_key = fresh.device_key AND older.id < fresh.first)
WHERE CASE WHEN before.state = 'offline' THEN newest.state <> 'offline' WHEN before.state IS NULL THEN 1 = 1
    ELSE newest.state = 'offline' END
ORDER BY newest.id
"""
_PUT_MARK: Final = """
INSERT INTO meta (key, value) VALUES (:key, :value) ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""
