"""`flaghoist-edge drift` and `repair`: the running release against what was signed, at a technician's hand."""

from __future__ import annotations

import os

from edge import config
from edge.config import Paths
from edge.drift import files as drift
from edge.drift import services
from edge.errors import Refused
from edge.identity.identity import Device, Identity
from edge.resident import hold
from edge.storage import anchor, records, state
from edge.storage.ledger import ENDED
from edge.storage.state import State
from edge.updating.hooks import Hooks, Place
from topics.documents import Release
from topics.messages import DriftItem


def check(paths: Paths) -> tuple[str, list[DriftItem]]:
    """Return the running release's id and how it differs. Changes nothing. Raises `EdgeError` and `OSError`."""
    device = Identity(paths).device
    release = _running(state.load(paths))
    return release.id, _differences(paths, device, release)


def repair(paths: Paths) -> tuple[str, list[DriftItem]]:
    """Put the running release's files back; return its id and what still differs.

    Done as the agent does it, which then reports it, so the agent must not run. Raises `EdgeError` and `OSError`.
    """
    from edge.updating import child

    identity = Identity(paths)
    anchor.need(paths, identity.device.fleet)
    lock = hold(paths.root / "lock")
    try:
        standing = state.load(paths)
        release = _running(standing)
        if standing.update is not None and standing.update.state not in ENDED:
            raise Refused(f"an update is {standing.update.state}; start the agent and let it end first")
        if standing.safe_mode:
            raise Refused("the device is in safe mode; order redeploy, which puts a whole release back")
        state.save(paths, records.changed(standing, inspect="repair"))
        child.run(paths, tell=None, parent=None)
        return release.id, _differences(paths, identity.device, release)
    finally:
        os.close(lock)


def _differences(paths: Paths, device: Device, release: Release) -> list[DriftItem]:
    settings = config.load_settings(paths.root)
    role = anchor.need(paths, device.fleet).role
    hooks = Hooks.of(paths, settings, device_id=device.device_id, role=role, seconds=settings.hook_seconds)
    told = services.look(hooks, Place(release.id, release.hook), paths.run)
    return drift.check(paths, release) + told


def _running(standing: State) -> Release:
    if standing.running is None:
        raise Refused("no release is installed here; there is nothing to compare")
    return standing.running.release
