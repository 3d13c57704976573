"""How the device is in touch: since when not, by which way, what waits to be told, and what it would do next."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from edge import beliefs
from edge.config import Paths, Settings
from edge.diagnose.finding import Finding, graded, passed, warned
from edge.identity.identity import Device
from edge.machine import clock, facts, starts
from edge.polling import notes
from edge.storage import linknote
from edge.storage.memory import Memory
from edge.storage.spool import Spool
from edge.storage.state import State
from topics import codec
from topics.channels import BY_NAME
from topics.eligibility import Decision
from topics.errors import DecodeError
from topics.messages import DURABLE_TYPES

SILENT: Final = 3600
"""Seconds without contact that are no news, or three intervals between heartbeats if that is longer."""
DAY: Final = 86_400
_NEEDS_SOMEBODY: Final = {
    "untrusted": "See the check that refused it, and the trust root; nothing new starts before that is mended.",
    "failed_here_before": "Order redeploy when the cause was this device, or publish a release that is mended.",
    "wrong_role": "Ask an operator which role this device is to have.",
    "wrong_hardware": "Publish a release for this hardware, or enrol with its name.",
    "agent_too_old": "Update the agent.",
    "needs_earlier_release": "Publish a release in between, or install one by hand.",
    "below_floor": "Promote a release above the floor.",
    "manifest_expired": "Connect the device: the hub renews manifests long before they expire.",
    "quarantined": "Do what safe mode or the hub's quarantine asks for.",
}


def transport(paths: Paths, settings: Settings, wall: int) -> Finding:
    """Which way to the hub is used at `wall` (s)."""
    return passed("transport", notes.sentence(notes.read(paths), settings.transport, wall))


def last(paths: Paths, known: Memory, wall: int, *, connected: bool) -> Finding:
    """When the hub was last reached, seen from `wall` (s); `connected` is the running agent's word."""
    if connected:
        return passed("last contact", "now")
    at = linknote.last_contact(paths)
    if at is None:
        return warned("last contact", "none is on record", "Start the agent and see the network checks.")
    silent = max(0, wall - at)
    return graded(
        "last contact",
        f"{_when(at)}, {_span(silent)} ago",
        "See the network checks; until then the device keeps to what it was told last.",
        fail=False,
        warn=silent > max(SILENT, 3 * known.update_interval),
    )


def oldest(paths: Paths, wall: int) -> Finding:
    """Since when the oldest report waits, seen from `wall` (s). Raises `OSError`."""
    waiting = Spool.peek(paths.spool)
    if not waiting:
        return passed("oldest report", "none waits")
    entry = waiting[0]
    try:
        at = codec.decode(entry.body, DURABLE_TYPES[entry.channel], limit=BY_NAME[entry.channel].limit).at
    except (KeyError, DecodeError):
        return warned("oldest report", "cannot be read", "The hub puts it in quarantine when it comes.")
    return graded(
        "oldest report",
        f"{entry.channel} of {_when(at)}",
        "Bring the device to its broker; if it is connected, see why the hub gives no receipts.",
        fail=False,
        warn=wall - at > DAY,
    )


def coming(device: Device, settings: Settings, known: Memory, standing: State, wall: int) -> Finding:
    """What `decide` says at `wall` (ms) of what was heard last."""
    decision = decided(device, settings, known, standing, wall)
    remedy = _NEEDS_SOMEBODY.get(decision.reason, "")
    return graded("next update", said(decision), remedy, fail=False, warn=bool(remedy))


def decided(device: Device, settings: Settings, known: Memory, standing: State, wall: int) -> Decision:
    """Return what the device would do at `wall` (ms) by what it believes."""
    judged = clock.judge(known.trust, wall)
    held = beliefs.reopen(known, device.device_id, judged)
    return facts.verdict(held, facts.of(device, settings, held, standing, retry=None), judged)


def said(decision: Decision) -> str:
    """Return a decision in words."""
    release = f" ({decision.release.id})" if decision.release else ""
    return f"{decision.reason}{release}" + (f": {decision.detail}" if decision.detail else "")


def row(paths: Paths, settings: Settings) -> Finding:
    """How many starts of the agent in a row did not last."""
    count = starts.row(paths)
    return graded(
        "starts",
        f"{count} in a row lasted less than {settings.boot_loop_seconds:g} s",
        "See the journal for why the device or its agent starts anew; at boot_loop_starts it enters safe mode.",
        fail=False,
        warn=count > 2,
    )


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _span(seconds: int) -> str:
    if seconds < 2 * 3600:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h" if seconds < 2 * DAY else f"{seconds // DAY} days"
