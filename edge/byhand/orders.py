"""`install`, `rollback` and `leave-safe-mode`: the orders themselves. All raise `EdgeError` and `OSError`."""

from __future__ import annotations

import os
from pathlib import Path

from edge import safemode
from edge.byhand import package, rules
from edge.byhand.session import Session, alone
from edge.config import Paths
from edge.errors import Refused, Untrusted
from edge.identity import trusting
from edge.storage import records
from edge.updating import stage
from topics import trust
from topics.documents import Release
from topics.errors import TrustError


def install(paths: Paths, file: Path, *, release_id: str | None = None, older: bool = False) -> str:
    """Install the release in `file` and return what came of it.

    The same checks and the same lifecycle as of an update from the hub; only no manifest is asked for, so none can have
    expired. A release that runs already changes nothing.
    """
    with alone(paths) as device, package.opened(file, device.memory.role, release_id) as brought:
        release = _trusted(device, brought)
        device.finish()
        decision, own = device.judge(release, older=older)
        if decision.reason == "already_installed":
            return f"{release.id} runs already"
        if not decision.eligible:
            raise Refused(rules.sentence(decision, release, own))
        _need_room(paths, release)
        package.copy_bundle(brought, release, paths.downloads)
        device.take(release, "install")
        return f"{release.id} (version {release.version}) runs"


def rollback(paths: Paths) -> str:
    """Go back to the release that ran before and return what came of it.

    The one that ran until now counts as failed here, so the hub's wish for it is not obeyed until `redeploy`.
    """
    with alone(paths) as device:
        device.finish()
        before = device.state.previous
        if before is None:
            raise Refused(
                "no release stands by to go back to; bring one and give: flaghoist-edge install FILE"
            )
        release = before.release
        if stage.stands(paths, release) is None:
            raise Refused(
                f"the files of {release.id} are not as they were signed; bring it and give: flaghoist-edge install"
                " FILE --older"
            )
        decision, own = device.judge(release, older=True)
        if not decision.eligible:
            raise Refused(rules.sentence(decision, release, own))
        left = device.state.running_id
        device.take(release, "rollback")
        return f"{release.id} (version {release.version}) runs; {left} is not taken again until redeploy"


def leave_safe_mode(paths: Paths) -> str:
    """End the present stay in safe mode, start the release again, and return what came of it."""
    with alone(paths) as device:
        device.finish()
        entry = device.state.safe_mode
        if not entry:
            return "the device is not in safe mode"
        if entry.startswith(safemode.ORDERED):
            raise Refused("the hub ordered safe mode here; an operator ends it at the hub")
        left = safemode.left(device.state, "left by a technician", device.memory.boot, device.wall)
        device.change(records.changed(left, failures=0, again=False))
        device.work()
        running, service = device.state.running_id, device.state.service
        if service:
            raise Refused(
                f"left safe mode, and {running} does not run: {service}; see flaghoist-edge diagnose"
            )
        return f"left safe mode; {running or 'nothing'} runs"


def _trusted(device: Session, brought: package.Package) -> Release:
    """Return the release once roots and release are trusted, and make that durable: its floor too."""
    try:
        trusted = trusting.walk(device.memory.trust, brought.roots)
        trusted, release = trust.accept_release(trusted, brought.envelope, role=device.memory.role)
    except TrustError as error:
        raise Untrusted(f"what was brought is refused by check {error.check}: {error.detail}") from None
    device.believe(trusted)
    return release


def _need_room(paths: Paths, release: Release) -> None:
    status = os.statvfs(paths.downloads)
    room = status.f_bavail * status.f_frsize - stage.RESERVE
    if room < release.bundle.size:
        raise Refused(
            f"the disk has no room for {release.id}: its bundle has {release.bundle.size} bytes; remove what does not"
            " belong on this disk"
        )
