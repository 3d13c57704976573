"""Use cases of recovery: each is one transaction with its events, after which the device's desired state is hoisted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from hub.caller import Caller
from hub.desired import check_lock, hoist_desired
from hub.errors import Conflict, Forbidden, Invalid
from hub.events import Event, append
from hub.policies import locks as policy_locks
from hub.recovery import commands, holding, known, rules
from hub.recovery.known import Past
from hub.signer import Signer
from hub.store import Row, Store, Tx
from topics.documents import CommandKind
from topics.eligibility import takes_candidate

BY_NAME: Final = ("collect-diagnostics", "check-drift", "repair-drift", "report-now", "restart-agent")
"""Commands that operators queue as they are; the others have endpoints with rules of their own."""


class Redeploy(msgspec.Struct, frozen=True, kw_only=True):
    """Which release (None for the one that is offered), and whether diagnostics may be passed over; `lifetime` in s.

    `exception` is an admin's reason to pass over the policies that keep such a release from the device's segment.
    """

    release: str | None = None
    force: bool = False
    reason: str = ""
    exception: str = ""
    lifetime: int = commands.LIFETIME_S


class Recovery:
    """Devices in trouble of one fleet. `clock` gives ms; `chaos` says whether devices may be made to fail."""

    def __init__(
        self, store: Store, signer: Signer, clock: Callable[[], int], *, chaos: bool = False
    ) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock
        self._chaos = chaos

    def enter(self, device_id: str, caller: Caller, reason: str = "") -> None:
        """Order a device into safe mode. Ordering it again changes nothing."""
        with self._changing(device_id) as (tx, device, now):
            if device["safe_mode"] != "on":
                _set_safe_mode(tx, device, "on", now)
                append(tx, _event("recovery.safe_mode_ordered", device, reason), caller, now)

    def leave(self, device_id: str, caller: Caller, reason: str = "") -> None:
        """End a device's stay in safe mode, whoever began it. Raises `Conflict` when it is not in one.

        A quarantine stays until a rule or a person ends it.
        """
        with self._changing(device_id) as (tx, device, now):
            past = Past(tx, device["key"])
            own = past.stay if past.in_safe_mode and past.stay and not past.stay.ordered else None
            if own is None and device["safe_mode"] != "on":
                raise Conflict(f"{device_id} is not in safe mode.", rule="not_in_safe_mode")
            _set_safe_mode(tx, device, f"cleared:{own.entry}" if own else "auto", now)
            body = {"entry": own.entry if own else None}
            append(tx, _event("recovery.safe_mode_ended", device, reason, body=body), caller, now)

    def quarantine(self, device_id: str, caller: Caller, reason: str) -> None:
        """Hold a device back until a person lets it go; also one that a rule holds back already."""
        _need_reason(reason)
        with self._changing(device_id) as (tx, device, now):
            holding.hold(tx, device, "operator", reason, caller, now)

    def release(self, device_id: str, caller: Caller, reason: str) -> None:
        """Let a device go. Raises `Conflict` when nothing holds it back.

        Drift and restarts up to now are taken as looked at: only what comes from now on holds it back again.
        """
        _need_reason(reason)
        with self._changing(device_id) as (tx, device, now):
            if not device["quarantine_rule"]:
                raise Conflict(f"{device_id} is not in quarantine.", rule="not_quarantined")
            holding.let_go(tx, device, reason, caller, now)
            where = {"key": device["key"], "now": now}
            tx.execute("UPDATE drifting SET since = :now WHERE device_key = :key", where)
            tx.execute("UPDATE restarting SET base = restarts, base_at = :now WHERE device_key = :key", where)

    def redeploy(self, device_id: str, asked: Redeploy, caller: Caller) -> dict[str, Any]:
        """Have a device install a release again and try it, although it failed there; return the command.

        Raises `Conflict` (`diagnostics`) with the checks that did not pass, unless forced. A release that the device
        is not offered becomes its version lock, if no policy refuses that. Safe mode that was ordered ends.
        """
        with self._changing(device_id) as (tx, device, now):
            refusal = rules.redeploy_refusal(known.trouble(device, Past(tx, device["key"])))
            if refusal is not None:
                _check_force(device_id, asked, caller, refusal)
            locks = asked.release is not None and not _is_offered(tx, device, asked.release)
            if asked.release is not None:
                check_lock(tx, asked.release, device["role"])
            if asked.release is not None and locks:
                where = (tx, device, asked.release, device["segment"], caller, now)
                policy_locks.enforce(*where, exception=asked.exception)
                tx.execute(
                    "UPDATE devices SET version_lock = :release WHERE key = :key",
                    {"release": asked.release, "key": device["key"]},
                )
            if device["safe_mode"] == "on":
                _set_safe_mode(tx, device, "auto", now)
            made = commands.queue(
                *(tx, device, "redeploy", caller, now),
                release=asked.release,
                lifetime=asked.lifetime,
                reason=asked.reason,
            )
            body = {
                "command": made,
                "locked": locks,
                "forced": refusal is not None,
                "not_passed": [check.name for check in refusal[1]] if refusal else [],
            }
            event = _event("recovery.redeploy_ordered", device, asked.reason, asked.release, body)
            append(tx, event, caller, now)
            return {**commands.get(tx, device, made), "locked": locks, "forced": refusal is not None}

    def command(
        self,
        device_id: str,
        kind: CommandKind,
        caller: Caller,
        *,
        reason: str = "",
        lifetime: int = commands.LIFETIME_S,
    ) -> dict[str, Any]:
        """Queue one of the commands that need no rule of their own; return it."""
        if kind not in BY_NAME:
            where = "/recovery/{device_id}/redeploy" if kind == "redeploy" else "/test/fail-update"
            raise Invalid(f"{kind} has rules of its own; post it to {where}.", rule="command_kind")
        with self._changing(device_id) as (tx, device, now):
            made = commands.queue(tx, device, kind, caller, now, reason=reason, lifetime=lifetime)
            return commands.get(tx, device, made)

    def cancel(self, device_id: str, command_id: str, caller: Caller) -> dict[str, Any]:
        """Take a pending command back. Raises `Conflict` for one that has ended."""
        with self._changing(device_id) as (tx, device, now):
            found = commands.get(tx, device, command_id)
            if not commands.end(tx, device, command_id, "cancelled", "taken back", caller, now):
                raise Conflict(f"{command_id} is {found['state']} already.", rule="command_state")
            return commands.get(tx, device, command_id)

    def fail_update(
        self, device_id: str, phase: str, kind: str, caller: Caller, *, lifetime: int, reason: str = ""
    ) -> dict[str, Any]:
        """Have a device's next update break in `phase` by `kind`, for a test; return the command.

        Raises `Conflict` where the hub was not started for chaos. The device obeys only if its own settings allow it.
        """
        if not self._chaos:
            raise Conflict(
                "This hub makes no device fail; start it with --chaos, on a fleet that is meant for it.",
                rule="chaos_off",
            )
        with self._changing(device_id) as (tx, device, now):
            args = {"phase": phase, "kind": kind}
            made = commands.queue(
                *(tx, device, "fail-next-update", caller, now), args=args, lifetime=lifetime, reason=reason
            )
            append(tx, _event("chaos.armed", device, reason, body={"command": made, **args}), caller, now)
            return commands.get(tx, device, made)

    @contextmanager
    def _changing(self, device_id: str) -> Iterator[tuple[Tx, Row, int]]:
        """One transaction on one device, which is told at its end. Raises `NotFound`, and `Conflict` if revoked."""
        now = self._clock()
        with self._store.write() as tx:
            device = known.get_device(tx, device_id)
            if device["revoked_at"] is not None:
                raise Conflict(f"{device_id} was revoked; it hears nothing any more.", rule="revoked")
            yield tx, device, now
            hoist_desired(tx, self._signer, device_id, now)


def _check_force(
    device_id: str, asked: Redeploy, caller: Caller, refusal: tuple[str, list[rules.Check]]
) -> None:
    why, not_passed = refusal
    if not asked.force:
        raise Conflict(
            f"{device_id} may not be given a release yet: {why}.",
            rule="diagnostics",
            required=list(rules.REQUIRED),
            not_passed=msgspec.to_builtins(not_passed),
        )
    if not caller.may("release-manager"):
        raise Forbidden(
            f"Passing over diagnostics needs the role release-manager; {caller.name} has {caller.role}.",
            rule="force",
        )
    _need_reason(asked.reason)


def _need_reason(reason: str) -> None:
    if not reason.strip():
        raise Invalid("This needs a reason; it stands in the audit.", rule="reason")


def _set_safe_mode(tx: Tx, device: Row, wish: str, now: int) -> None:
    tx.execute(
        "UPDATE devices SET safe_mode = :wish, revision = devices.revision + 1, updated_at = :now WHERE key = :key",
        {"wish": wish, "now": now, "key": device["key"]},
    )


def _is_offered(tx: Tx, device: Row, release: str) -> bool:
    """Whether a device belongs on `release` by its manifest and lock, so that naming it is enough."""
    if device["version_lock"] is not None:
        return bool(device["version_lock"] == release)
    offer = known.offered(tx, device)
    candidate = offer.get("candidate_id")
    if candidate is not None and takes_candidate(candidate, device["device_id"], offer["basis_points"]):
        return bool(candidate == release)
    return bool(offer.get("stable_id") == release)


def _event(
    kind: str, device: Row, reason: str, release: str | None = None, body: dict[str, Any] | None = None
) -> Event:
    return Event(
        kind=kind,
        device_id=device["device_id"],
        role=device["role"],
        release_id=release,
        reason=reason,
        body=body or {},
    )
