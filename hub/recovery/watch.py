"""What rules do by themselves: alerts of devices hold them back, their recovery lets them go, commands end.

Ingest's transactions leave a line in `recovery_inbox` for what may matter here; the leader takes the lines in order,
each with what follows from it in one transaction, so a hub that is killed in between loses and repeats nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Final, TypeVar

import structlog

from hub.caller import Caller, rule
from hub.desired import hoist_desired
from hub.errors import Conflict
from hub.recovery import commands, holding, known, rules
from hub.recovery.known import Past
from hub.recovery.rules import HOUR_MS, Limits, Rule
from hub.signer import Signer
from hub.store import Row, Store, Tx
from topics.messages import CommandResult, Drift, Durable, Recovery

CHUNK: Final = 200
"""Lines of the inbox in one transaction."""
T = TypeVar("T", bound=Durable)
_log = structlog.get_logger("hub.recovery")


class Watch:
    """`look` is called by the leader alone, after commits and every second. `clock` gives ms."""

    def __init__(self, store: Store, signer: Signer, clock: Callable[[], int], limits: Limits) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock
        self._limits = limits

    def look(self) -> None:
        """Take in what was reported, and see to what only time decides."""
        try:
            while self._take_in() == CHUNK:
                pass
            self._time_passed()
        except Conflict as error:
            # The hub's clock stands behind its own signatures: nothing is lost, the lines wait.
            _log.warning("recovery waits", error=str(error))

    def _take_in(self) -> int:
        with self._store.read() as tx:
            if tx.one("SELECT 1 AS there FROM recovery_inbox LIMIT 1") is None:
                return 0
        now = self._clock()
        with self._store.write() as tx:
            lines = tx.all("SELECT * FROM recovery_inbox ORDER BY id LIMIT :limit", {"limit": CHUNK})
            by_device: dict[int, list[Row]] = defaultdict(list)
            for line in lines:
                by_device[line["device_key"]].append(line)
            for key, told in by_device.items():
                device = tx.one("SELECT * FROM devices WHERE key = :key", {"key": key})
                if device is not None and device["revoked_at"] is None:
                    self._judge(tx, device, told, now)
            if lines:
                tx.execute("DELETE FROM recovery_inbox WHERE id <= :id", {"id": lines[-1]["id"]})
        return len(lines)

    def _judge(self, tx: Tx, device: Row, told: list[Row], now: int) -> None:
        """Let the lines of one device change what is held of it, and hoist what follows."""
        found: dict[Rule, str] = {}
        changed = False
        for line in told:
            match line["kind"]:
                case "command-result":
                    changed |= _end_command(tx, device, line, now)
                case "drift":
                    _note_drift(tx, device, line, now)
                case "recovery":
                    changed |= _note_recovery(tx, device, line, found, now)
                case "rolled_back":
                    self._count_failures(tx, device, found)
                case "restarts":
                    self._count_restarts(tx, device, found, now)
        changed |= self._decide(tx, device, found, now)
        if changed:
            hoist_desired(tx, self._signer, device["device_id"], now)

    def _decide(self, tx: Tx, device: Row, found: dict[Rule, str], now: int) -> bool:
        """Hold a device back or let it go; return whether either happened."""
        first = rules.takes_over(device["quarantine_rule"], found)
        if first is not None:
            holding.hold(tx, device, first, found[first], _by(first), now)
            holding.tell_storm(tx, device["role"], self._limits, rule("storm"), now)
            return True
        if not device["quarantine_rule"]:
            return False
        why = rules.may_go(known.held(tx, device, Past(tx, device["key"])))
        if why:
            holding.let_go(tx, device, why, _by(device["quarantine_rule"]), now)
        return bool(why)

    def _count_failures(self, tx: Tx, device: Row, found: dict[Rule, str]) -> None:
        count = known.failures_in_a_row(tx, device["key"])
        if self._limits.failures and count >= self._limits.failures:
            found["failures"] = f"{count} activations in a row failed"

    def _count_restarts(self, tx: Tx, device: Row, found: dict[Rule, str], now: int) -> None:
        row = tx.one("SELECT * FROM restarting WHERE device_key = :key", {"key": device["key"]})
        if row is None or row["base_at"] < now - HOUR_MS:
            return
        count = row["restarts"] - row["base"]
        if self._limits.restarts and count >= self._limits.restarts:
            found["restarts"] = f"its service was restarted {count} times within an hour"

    def _time_passed(self) -> None:
        now = self._clock()
        due = {
            "now": now,
            "drifting": now - self._limits.drift_hours * HOUR_MS if self._limits.drift_hours else -1,
            "hour": now - HOUR_MS,
        }
        with self._store.read() as tx:
            if tx.one(f"{_EXPIRED} UNION ALL {_DRIFTING} UNION ALL {_QUIET} LIMIT 1", due) is None:
                return
        with self._store.write() as tx:
            devices = set(commands.expire(tx, now))
            for row in tx.all(_DRIFTING, due):
                device = known.get_device(tx, row["device_id"])
                hours = self._limits.drift_hours
                reason = f"a drift has not been resolved for {hours} {'hour' if hours == 1 else 'hours'}"
                self._decide(tx, device, {"drift": reason}, now)
                devices.add(device["device_id"])
            for row in tx.all(_QUIET, due):
                device = known.get_device(tx, row["device_id"])
                commands.queue(
                    tx, device, "collect-diagnostics", _by("restarts"), now, reason="an hour passed"
                )
                devices.add(device["device_id"])
            for device_id in sorted(devices):
                hoist_desired(tx, self._signer, device_id, now)


def _end_command(tx: Tx, device: Row, line: Row, now: int) -> bool:
    result = _report(tx, line, CommandResult)
    if result is None:
        return False
    state = "done" if result.ok else "failed"
    return commands.end(tx, device, result.command, state, result.detail, _device(device), now)


def _note_drift(tx: Tx, device: Row, line: Row, now: int) -> None:
    drift = _report(tx, line, Drift)
    if drift is None:
        return
    row = {"key": device["key"], "now": now}
    if known.has_drift(drift):
        tx.execute(
            "INSERT INTO drifting (device_key, since) VALUES (:key, :now) ON CONFLICT (device_key) DO NOTHING",
            row,
        )
    else:
        tx.execute("DELETE FROM drifting WHERE device_key = :key", row)


def _note_recovery(tx: Tx, device: Row, line: Row, found: dict[Rule, str], now: int) -> bool:
    """Note an entry to safe mode; ask for diagnostics once a device that is held back has left it."""
    report = _report(tx, line, Recovery)
    if report is None:
        return False
    past = Past(tx, device["key"])
    if report.state == "entered" and past.in_safe_mode and past.stay is not None and not past.stay.ordered:
        found["safe_mode"] = past.stay.reason or "it entered safe mode"
    if report.state == "left" and device["quarantine_rule"] == "safe_mode":
        commands.queue(tx, device, "collect-diagnostics", _by("safe_mode"), now, reason="it left safe mode")
        return True
    return False


def _report(tx: Tx, line: Row, kind: type[T]) -> T | None:
    row = tx.one(
        "SELECT body FROM reports WHERE device_key = :key AND spool = :spool AND n = :n",
        {"key": line["device_key"], "spool": line["spool"], "n": line["n"]},
    )
    return known.read(row["body"], kind) if row else None


def _by(name: str) -> Caller:
    return rule(f"quarantine-{name}")


def _device(device: Row) -> Caller:
    return Caller(f"device:{device['device_id']}", "device")


_EXPIRED: Final = (
    "SELECT devices.device_id FROM commands JOIN devices ON devices.key = commands.device_key "
    "WHERE commands.state = 'pending' AND commands.expires_at <= :now"
)
_DRIFTING: Final = (
    "SELECT devices.device_id FROM drifting JOIN devices ON devices.key = drifting.device_key "
    "WHERE drifting.since <= :drifting AND devices.quarantine_rule = '' AND devices.revoked_at IS NULL"
)
# An hour after the restarts, once: the diagnostics say whether it may go. The second condition names the index.
_QUIET: Final = (
    "SELECT device_id FROM devices WHERE quarantine_rule = 'restarts' AND quarantine_rule <> '' "
    "AND quarantined_at <= :hour AND revoked_at IS NULL "
    "AND NOT EXISTS (SELECT 1 FROM commands WHERE commands.device_key = devices.key "
    "AND commands.kind = 'collect-diagnostics' AND commands.created_at >= devices.quarantined_at + 3600000)"
)
