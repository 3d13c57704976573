"""What `flaghoist-edge status` shows, read from the state directory alone."""

from __future__ import annotations

from typing import Any

from edge import VERSION
from edge.config import Paths
from edge.identity.identity import Identity
from edge.selfupdate import launcher
from edge.storage import anchor, state
from edge.storage.spool import Spool


def gather(paths: Paths) -> dict[str, Any]:
    """Return the status as plain values. Raises `NotReady` when the device is not enrolled."""
    device = Identity(paths).device
    held, known = state.load(paths), anchor.need(paths, device.fleet)
    running, update = held.running, held.update
    waiting = {(entry.source, entry.serial) for entry in Spool.peek(paths.spool)}
    # What stands in an outbox may be in the spool already.
    waiting |= {(f"update:{held.id}", report.serial) for report in held.outbox}
    waiting |= {(f"memory:{known.id}", report.serial) for report in known.outbox}
    return {
        "device_id": device.device_id,
        "fleet": device.fleet,
        "role": known.role,
        "segment": known.segment,
        "hardware": device.hardware,
        "agent": f"{VERSION} (build {launcher.own()})" if launcher.own() else VERSION,
        "running": running.release.id if running else None,
        "running_version": running.release.version if running else None,
        "previous": held.previous.release.id if held.previous else None,
        "service": held.service or "ok",
        "update": {
            "release": update.release.id,
            "state": update.state,
            "attempt": update.attempt,
            "reason": update.reason,
        }
        if update
        else None,
        "failed": held.failed,
        "safe_mode": held.safe_mode or None,
        "trusted_root": known.trust.root.version,
        "floor": known.trust.floor(known.role),
        "reports_waiting": len(waiting),
    }


def text(values: dict[str, Any]) -> str:
    """Return the status as lines for people."""
    update = values["update"]
    lines = [
        f"{values['device_id']}  fleet {values['fleet']}, {values['role']}/{values['segment']}",
        f"running   {values['running'] or 'nothing'}"
        + (f" (version {values['running_version']})" if values["running"] else ""),
        f"service   {values['service']}",
        f"agent     {values['agent']}",
    ]
    if update:
        reason = f": {update['reason']}" if update["reason"] else ""
        lines.append(f"update    {update['release']} {update['state']} (attempt {update['attempt']}){reason}")
    if values["failed"]:
        lines.append(f"failed    {', '.join(values['failed'])}")
    if values["safe_mode"]:
        lines.append(f"safe mode {values['safe_mode']}")
    lines.append(f"trust     root {values['trusted_root']}, floor {values['floor']}")
    lines.append(f"reports   {values['reports_waiting']} waiting for the hub")
    return "\n".join(lines)
