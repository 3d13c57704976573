"""Daily checkpoints: the hub signs how far its event log has come, so that its end cannot be cut off unseen."""

from __future__ import annotations

from typing import Final

from hub.signer import Signer
from hub.store import Store
from topics.documents import Checkpoint

DAY_MS: Final = 86_400_000


def checkpoint_if_due(store: Store, signer: Signer, now: int) -> Checkpoint | None:
    """Sign the newest sealed event, once a day and only when there is a newer one than the last; `now` is in ms."""
    with store.write() as tx:
        last = tx.one("SELECT n, at FROM checkpoints ORDER BY n DESC LIMIT 1")
        newest = tx.one("SELECT n, hash FROM events WHERE n IS NOT NULL ORDER BY n DESC LIMIT 1")
        if newest is None or (last and (last["n"] >= newest["n"] or 0 <= now - last["at"] < DAY_MS)):
            return None
        checkpoint = Checkpoint(fleet=signer.fleet, n=newest["n"], hash=newest["hash"], at=now)
        tx.execute(
            "INSERT INTO checkpoints (n, at, envelope) VALUES (:n, :at, :envelope)",
            {"n": checkpoint.n, "at": now, "envelope": signer.sign(checkpoint, "checkpoint")},
        )
    return checkpoint
