"""How often devices' services were restarted, from heartbeats; recovery judges it.

Devices whose service never was restarted, nearly all, cost one look at a field.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hub.broker.beats import Beats
from hub.store import Tx

HOUR_MS: Final = 3_600_000


def put(tx: Tx, heard: Iterable[tuple[int, Beats]], now: int) -> None:
    """Note the restarts that heartbeats tell of, by device key. `now` in ms.

    They are counted from `base`, which begins anew after an hour without one more, or when a device lost its count. The
    first restart that is heard of counts as one: how many came before it nobody knows.
    """
    rows = [
        {
            "key": key,
            "restarts": probes.restarts,
            "base": probes.restarts - 1,
            "now": now,
            "hour": now - HOUR_MS,
        }
        for key, beats in heard
        if (probes := beats.newest.probes) is not None and probes.restarts
    ]
    if rows:
        tx.executemany(_PUT, rows)


_PUT: Final = """
INSERT INTO restarting (device_key, base, base_at, restarts) VALUES (:key, :base, :now, :restarts)
ON CONFLICT (device_key) DO UPDATE SET restarts = excluded.restarts,
    base = CASE WHEN excluded.restarts < restarting.restarts THEN excluded.restarts
        WHEN restarting.base_at < :hour THEN restarting.restarts ELSE restarting.base END,
    base_at = CASE WHEN excluded.restarts < restarting.restarts OR restarting.base_at < :hour THEN excluded.base_at
        ELSE restarting.base_at END
WHERE excluded.restarts <> restarting.restarts
"""
