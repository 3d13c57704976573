"""What `flaghoist-edge status` shows, read from the state directory alone."""

from __future__ import annotations

import time
from typing import Any

from edge import VERSION, config, safemode
from edge.config import Paths
from edge.diagnose import contact, machine
from edge.diagnose.release import is_running
from edge.errors import NotReady
from edge.identity.identity import Identity
from edge.machine.clock import SystemClock
from edge.selfupdate import launcher
from edge.storage import anchor, linknote, state
from edge.storage.ledger import ENDED
from edge.storage.memory import Memory
from edge.storage.spool import Spool
from edge.storage.state import State


def gather(paths: Paths) -> dict[str, Any]:
    """Return the status as plain values. Raises `NotReady` when the device is not enrolled."""
    device = Identity(paths).device
    held, known = state.load(paths), anchor.need(paths, device.fleet)
    running, update = held.running, held.update
    note = linknote.read(paths)
    return {
        "device_id": device.device_id,
        "fleet": device.fleet,
        "role": known.role,
        "segment": known.segment,
        "hardware": device.hardware,
        "agent": f"{VERSION} (build {launcher.own()})" if launcher.own() else VERSION,
        "agent_running": is_running(paths),
        "running": running.release.id if running else None,
        "running_version": running.release.version if running else None,
        "running_since": _rfc3339(running.since) if running and running.since else None,
        "previous": held.previous.release.id if held.previous else None,
        "service": held.service or "ok",
        "machine": _machine(paths),
        "update": {
            "release": update.release.id,
            "state": update.state,
            "under_way": update.state not in ENDED,
            "attempt": update.attempt,
            "reason": update.reason,
            "since": _rfc3339(update.entered // 1000),
        }
        if update
        else None,
        "failed": held.failed,
        "next": _next(paths, known, held),
        "safe_mode": held.safe_mode or None,
        "connection": {"connected": note[0], "reason": note[1], "since": _rfc3339(note[2])} if note else None,
        "trusted_root": known.trust.root.version,
        "floor": known.trust.floor(known.role),
        "reports_waiting": _waiting(paths, known, held),
    }


def text(values: dict[str, Any]) -> str:
    """Return the status as lines for people."""
    lines = [
        ("", f"{values['device_id']}  fleet {values['fleet']}, {values['role']}/{values['segment']}"),
        ("running", _running(values)),
        ("service", values["service"]),
    ]
    if values["machine"] != "ok":
        lines.append(("machine", f"{values['machine']}; flaghoist-edge diagnose says what to do"))
    if values["update"]:
        label = "trying" if values["update"]["under_way"] else "last"
        lines.append((label, _update(values["update"])))
    if values["failed"]:
        lines.append(("failed", f"{', '.join(values['failed'])}; not taken again until redeploy"))
    lines.append(("next", values["next"]))
    if values["safe_mode"]:
        lines.append(("safe mode", _way_out(values["safe_mode"])))
    lines += [
        ("agent", f"{values['agent']}, {'running' if values['agent_running'] else 'not running'}"),
        ("hub", _connection(values)),
        ("trust", f"root {values['trusted_root']}, floor {values['floor']}"),
        ("reports", f"{values['reports_waiting']} waiting for the hub"),
    ]
    return "\n".join(f"{label:<10}{said}" if label else said for label, said in lines)


def _running(values: dict[str, Any]) -> str:
    if not values["running"]:
        return "nothing"
    since = f" since {values['running_since']}" if values["running_since"] else ""
    before = f"; before it {values['previous']}" if values["previous"] else ""
    return f"{values['running']} (version {values['running_version']}){since}{before}"


def _update(update: dict[str, Any]) -> str:
    reason = f": {update['reason']}" if update["reason"] else ""
    return f"{update['release']} {update['state']} (attempt {update['attempt']}) at {update['since']}{reason}"


def _way_out(entry: str) -> str:
    if entry.startswith(safemode.ORDERED):
        return f"{entry}, ordered by the hub; an operator ends it there"
    return f"{entry}; end it with flaghoist-edge leave-safe-mode, or order redeploy"


def _connection(values: dict[str, Any]) -> str:
    link = values["connection"]
    if link is None:
        return "never connected"
    if not values["agent_running"]:
        return f"not connected; {'connected' if link['connected'] else 'not reached'} at {link['since']}"
    if link["connected"]:
        return f"connected since {link['since']}"
    return f"not connected since {link['since']}: {link['reason']}"


def _next(paths: Paths, known: Memory, held: State) -> str:
    try:
        settings = config.load_settings(paths.root)
    except NotReady as error:
        return str(error)
    decision = contact.decided(Identity(paths).device, settings, known, held, int(time.time() * 1000))
    return contact.said(decision)


def _waiting(paths: Paths, known: Memory, held: State) -> int:
    waiting = {(entry.source, entry.serial) for entry in Spool.peek(paths.spool)}
    # What stands in an outbox may be in the spool already.
    waiting |= {(f"update:{held.id}", report.serial) for report in held.outbox}
    waiting |= {(f"memory:{known.id}", report.serial) for report in known.outbox}
    return len(waiting)


def _machine(paths: Paths) -> str:
    """Return what is wrong with the machine, like a full disk, which lets nothing new be written down."""
    found = machine.check(machine.read(paths.root, wall=SystemClock().wall(), newest=0))
    return "; ".join(f"{each.check}: {each.detail}" for each in found if each.level == "fail") or "ok"


def _rfc3339(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
