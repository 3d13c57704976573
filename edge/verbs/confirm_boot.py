"""`confirm-boot`: whether this boot of the machine is good, for what waits on `boot-complete.target`."""

from __future__ import annotations

import argparse
import os
import time
from typing import Final

from edge import config, resident
from edge.config import Paths
from edge.errors import NotReady, Refused
from edge.identity.identity import Identity
from edge.storage import anchor, state
from edge.storage.ledger import ENDED
from edge.storage.state import State
from edge.updating.hooks import Hooks, Place

PAUSE: Final = 2.0
"""Seconds between two looks at an update under way, or at a service that comes up."""


def run(paths: Paths, chosen: argparse.Namespace) -> int:
    """Wait until the committed release runs, and have its hook confirm it. Raises `EdgeError`."""
    device = Identity(paths).device
    if not (chosen.no_agent or _agent_works(paths)):
        raise Refused(f"no agent works in {paths.root}; start it, or give --no-agent on a device that sleeps")
    settings = config.load_settings(paths.root)
    role = anchor.need(paths, device.fleet).role
    hooks = Hooks.of(paths, settings, device_id=device.device_id, role=role, seconds=settings.hook_seconds)
    deadline = time.monotonic() + chosen.seconds
    while (problem := _problem(state.load(paths), hooks)) and time.monotonic() < deadline:
        time.sleep(min(PAUSE, max(0.0, deadline - time.monotonic())))
    if problem:
        raise Refused(f"this boot is not confirmed: {problem}")
    held = state.load(paths)
    if held.running is None:
        print("nothing is installed; there is nothing to confirm")
        return 0
    result = hooks.call("confirm", _place(held))
    if not result.ok:
        raise Refused(f"this boot is not confirmed: {result.reason}")
    print(f"{held.running.release.id} runs; this boot is confirmed")
    return 0


def _problem(held: State, hooks: Hooks) -> str:
    """Return why the boot is not good, or not yet; "" when it is."""
    if held.update is not None and held.update.state not in ENDED:
        return f"{held.update.release.id} is {held.update.state}"
    if held.safe_mode:
        return f"the device is in safe mode ({held.safe_mode})"
    return "" if held.running is None else hooks.call("probe", _place(held)).reason


def _place(held: State) -> Place:
    if held.running is None:
        raise LookupError("no release is installed")
    before = held.previous.release.id if held.previous else ""
    return Place(held.running.release.id, held.running.release.hook, before)


def _agent_works(paths: Paths) -> bool:
    try:
        os.close(resident.hold(paths.root / "lock"))
    except NotReady:
        return True
    return False
