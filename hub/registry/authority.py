"""The device CA in use: how it stands, and each step of its replacement, with what devices are told of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog

from hub.caller import Caller, rule
from hub.desired import NAMED_CAS, named_cas
from hub.errors import Conflict
from hub.events import Event, append
from hub.identity import rotation
from hub.identity.ca import Authorities, Authority
from hub.identity.rotation import Ordered, Standing, Step
from hub.registry.service import Registry
from hub.store import Store
from hub.times import rfc3339

_KINDS: Final[dict[Step, str]] = {
    "announce": "ca.announced",
    "switch": "ca.switched",
    "retire": "ca.retired",
}
_WAITING: Final = "FROM devices WHERE revoked_at IS NULL AND ca_confirmed <> :newest"
SHOWN: Final = 20
"""Devices that do not know the newest CA, as far as they are named."""
_STATES: Final[dict[Step, str]] = {"announce": "settled", "switch": "announced", "retire": "switched"}
_log = structlog.get_logger("hub.authority")


class AuthorityRenewal:
    """Replaces the device CA step by step. `clock` gives ms.

    `reload` lets the broker read its files anew, and `restart` has it started again.
    """

    def __init__(
        self,
        store: Store,
        authorities: Authorities,
        registry: Registry,
        reload: Callable[[], None],
        restart: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        self._store, self._authorities, self._registry = store, authorities, registry
        self._reload, self._restart, self._clock = reload, restart, clock
        self._lock = threading.Lock()

    def look(self) -> None:
        """Take the step that is due, if one is, and finish one that a stop of the hub broke off."""
        with self._lock:
            self._tell()
            taken = rotation.due(self._authorities.generations, self._standing())
            if taken:
                self._take(taken, rule("ca"))

    def order(self, wanted: Ordered, caller: Caller, *, leave_behind: bool) -> dict[str, Any]:
        """Take a step before it follows by itself; return how it stands then.

        Raises `Conflict`: `ca_step` when another step is the next one, `ca_waiting` when devices would be left behind
        and `leave_behind` does not allow it.
        """
        with self._lock:
            following, waiting = rotation.following(self._authorities.generations), self._standing().waiting
            if wanted != following:
                raise Conflict(f"The next step is to {following} a CA, not to {wanted} one.", rule="ca_step")
            if wanted != "announce" and waiting and not leave_behind:
                raise Conflict(
                    f"Devices that have not said that they know the new CA: {waiting}. Wait for them, or leave them to "
                    "come back over HTTP.",
                    rule="ca_waiting",
                )
            self._take(wanted, caller)
        return self.view()

    def view(self) -> dict[str, Any]:
        """Return the generations, and how many devices have not said that they know the newest."""
        authorities, generations = self._authorities, self._authorities.generations
        standing = self._standing()
        replacing = generations.newest != generations.first
        return {
            "state": _STATES[rotation.following(generations)],
            "since": rfc3339(generations.since * 1000) if generations.since else None,
            "serving": _shown(authorities.serving),
            "trusted": [_shown(authority) for authority in authorities.trusted],
            "waiting": standing.waiting if replacing else 0,
            "missing": self._missing() if replacing else [],
        }

    def _missing(self) -> list[str]:
        with self._store.read() as tx:
            rows = tx.all(
                f"SELECT device_id {_WAITING} ORDER BY device_id LIMIT :most",
                {"newest": self._authorities.device.sha256, "most": SHOWN},
            )
        return [row["device_id"] for row in rows]

    def _standing(self) -> Standing:
        authorities = self._authorities
        with self._store.read() as tx:
            row = tx.one(
                f"SELECT COUNT(*) AS waiting {_WAITING}",
                {"newest": authorities.device.sha256},
            )
        return Standing(
            now=self._clock() // 1000,
            serving_ends=authorities.serving.ends,
            oldest_ends=authorities.trusted[0].ends,
            waiting=int(row["waiting"]) if row else 0,
        )

    def _take(self, taken: Step, caller: Caller) -> None:
        now = self._clock()
        self._authorities.change(
            rotation.after(self._authorities.generations, taken, now // 1000), now // 1000
        )
        # Before the broker and every device are told, which takes a while: it has happened, whatever comes between.
        with self._store.write() as tx:
            append(tx, Event(kind=_KINDS[taken], body=self._body()), caller, now)
        if taken == "switch":
            self._reload()
        if taken == "retire":
            # Mosquitto takes up a CA at a reload, and gives none up.
            self._restart()
        self._tell()
        _log.info("device CA", step=taken)

    def _tell(self) -> None:
        """Name the CAs of now in every desired state, if they are others than it names."""
        if self._authorities.generations.newest == 1:
            return
        wanted = [authority.sha256 for authority in self._authorities.trusted]
        with self._store.read() as tx:
            known = named_cas(tx)
        if known == wanted:
            return
        # The broker first: it must take certificates by a CA before a device can have one.
        self._reload()
        with self._store.write() as tx:
            tx.execute(
                "INSERT INTO meta (key, value) VALUES (:key, :value) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                {"key": NAMED_CAS, "value": msgspec.json.encode(wanted).decode()},
            )
        self._registry.sign_again()

    def _body(self) -> dict[str, Any]:
        return {
            "serving": self._authorities.serving.sha256,
            "trusted": [authority.sha256 for authority in self._authorities.trusted],
        }


def _shown(authority: Authority) -> dict[str, Any]:
    return {"sha256": authority.sha256, "not_after": rfc3339(authority.ends * 1000)}
