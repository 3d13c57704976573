"""What pausing, resuming or rolling back would do: the very same code, in a transaction that is taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

from hub.deployment import views
from hub.deployment.records import get_release
from hub.errors import Conflict
from hub.store import Row, Store, Tx

Verb = Literal["pause", "resume", "rollback"]
LISTED: Final = 500
"""Devices that are named; the rest are counted."""

_RUNNING: Final = """
FROM devices JOIN device_latest ON device_latest.device_key = devices.key
WHERE devices.role = :role AND device_latest.running = :id AND devices.revoked_at IS NULL
"""


class _TakenBackError(Exception):
    """Ends a transaction without its changes."""


class Rehearsal:
    """A store of which nothing that is written stays, and nobody hears. What a transaction refuses, it raises."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.read = store.read
        self.expect_bulk = store.expect_bulk

    @contextmanager
    def write(self) -> Iterator[Tx]:
        """See `Store.write`; the changes are seen within the transaction alone."""
        try:
            with self._store.write() as tx:
                yield tx
                raise _TakenBackError
        except _TakenBackError:
            pass

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Nothing is ever committed."""

    def close(self) -> None:
        """The store is somebody else's to close."""


def dry_run(
    store: Store, verb: Verb, release_id: str, act: Callable[[], object], *, now: int, observed_since: int
) -> dict[str, Any]:
    """Return which rule refuses `act`, done on a `Rehearsal`, and whom it concerns; times in ms. Raises `NotFound`.

    `devices` are, for a rollback, those that run the release; else those that are to take it and have not begun.
    """
    with store.read() as tx:
        release = get_release(tx, release_id)
        found = views.progress(tx, release_id, now=now, observed_since=observed_since)
        concerned = _running(tx, release) if verb == "rollback" else _waiting(found)
    refusal = None
    try:
        act()
    except Conflict as refused:
        refusal = refused
    return {
        "dry_run": True,
        "refused_by": refusal.rule if refusal else None,
        "detail": refusal.detail if refusal else "",
        "in_progress": sum(row["in_progress"] for row in found["segments"]),
        **concerned,
    }


def _waiting(progress: dict[str, Any]) -> dict[str, Any]:
    by_segment = {
        row["segment"]: max(0, row["awaited"] - row["in_progress"] - row["lost"])
        for row in progress["segments"]
    }
    return {"devices": sum(by_segment.values()), "by_segment": by_segment, "would_move": [], "more": 0}


def _running(tx: Tx, release: Row) -> dict[str, Any]:
    params = {"role": release["role"], "id": release["id"]}
    counted = tx.all(
        f"SELECT devices.segment AS segment, COUNT(*) AS devices {_RUNNING} GROUP BY 1 ORDER BY 1", params
    )
    named = tx.all(f"SELECT devices.device_id AS id {_RUNNING} ORDER BY 1 LIMIT {LISTED}", params)
    devices = sum(row["devices"] for row in counted)
    return {
        "devices": devices,
        "by_segment": {row["segment"]: row["devices"] for row in counted},
        "would_move": [row["id"] for row in named],
        "more": devices - len(named),
    }
