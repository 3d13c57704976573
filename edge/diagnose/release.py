"""What runs here: the release, its files and hook, the last update, safe mode, and reports that wait."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edge.config import Paths, Settings
from edge.diagnose.finding import Finding, failed, graded, passed, skipped, warned
from edge.errors import NotReady, Stop
from edge.identity.identity import Device
from edge.storage import linknote, outbox, spool
from edge.storage.memory import Memory
from edge.storage.spool import Spool
from edge.storage.state import State
from edge.updating import activate, stage
from edge.updating.hooks import Hooks, Place
from topics import lifecycle

WAITING_WARN: Final = 1000


def agent(paths: Paths, running: bool) -> list[Finding]:
    """Whether the agent runs, and how it says that its connection stands."""
    if not running:
        return [
            warned(
                "agent",
                "not running",
                "Start it: systemctl start flaghoist-agent; on a device that sleeps, its timer does.",
            )
        ]
    note = linknote.read(paths)
    findings = [passed("agent", "running")]
    if note is not None:
        connected, reason, since = note
        at = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        told = f"connected since {at}" if connected else f"not connected since {at}: {reason}"
        remedy = "Do what the network checks say; the agent tries again by itself."
        findings.append(graded("connection", told, remedy, fail=not connected, warn=False))
    return findings


def is_running(paths: Paths) -> bool:
    """Whether an agent holds the state directory. Asked of the kernel: trying the lock could stop one from starting."""
    try:
        lock = (paths.root / "lock").stat()
        held = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    except OSError:
        return False
    place = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
    return any(place in fields for fields in held)


def installed(paths: Paths, standing: State) -> list[Finding]:
    """The release that runs, byte by byte, and the link to it."""
    if standing.running is None:
        return [
            warned(
                "release",
                "none is installed",
                "Promote one for this device's role and segment; the device takes it when it is eligible.",
            )
        ]
    release = standing.running.release
    info = stage.stands(paths, release)
    findings = [
        passed("release", f"{release.id} (version {release.version})"),
        graded(
            "files",
            "as signed" if info else "not as signed",
            "flaghoist-edge drift says which differ, and flaghoist-edge repair puts them back.",
            fail=info is None,
            warn=False,
        ),
        graded(
            "current",
            f"points to {release.id}" if activate.points_to(paths, release.id) else "points elsewhere",
            "Start the agent; it sets the link again.",
            fail=not activate.points_to(paths, release.id),
            warn=False,
        ),
    ]
    before = standing.previous
    if before is None:
        findings.append(passed("previous", "none yet"))
    else:
        there = paths.release(before.release.id).is_dir()
        findings.append(
            graded(
                "previous",
                f"{before.release.id} {'stands by' if there else 'is gone'}",
                "Nothing needs it now; the next update leaves the present release in its place.",
                fail=False,
                warn=not there,
            )
        )
    return findings


def hook(paths: Paths, device: Device, known: Memory, standing: State, settings: Settings) -> list[Finding]:
    """Whether the release's hook is here, and what it says of the service."""
    if standing.running is None:
        return []
    release = standing.running.release
    try:
        runs = Hooks.of(
            paths, settings, device_id=device.device_id, role=known.role, seconds=settings.validate_seconds
        )
    except NotReady as error:
        return [skipped("service", str(error))]
    try:
        program = runs.find(release.hook)
    except Stop as stop:
        return [failed("hook", stop.reason, "Install the hook there, or start the agent with --hooks.")]
    result = runs.call("probe", Place(release.id, release.hook))
    found = "runs, says the hook" if result.ok else result.reason or "the hook gives no reason"
    return [
        passed("hook", str(program)),
        graded(
            "service",
            found,
            "See the service's own log; while the agent runs it starts the service again every check_seconds.",
            fail=not result.ok and not result.later,
            warn=result.later,
        ),
    ]


def history(standing: State) -> list[Finding]:
    """The last update, releases that failed here, safe mode, restarts: the last errors that are on record."""
    update = standing.update
    ended = update is None or update.state in lifecycle.TERMINAL
    if update is None:
        last = passed("last update", "none yet")
    else:
        why = f": {update.reason}" if update.reason else ""
        last = graded(
            "last update",
            f"{update.release.id} {update.state} (attempt {update.attempt}){why}",
            "Mend what the reason names; the agent tries again by itself, or publish a release that is mended.",
            fail=False,
            warn=ended and update.state != "committed",
        )
    return [
        last,
        graded(
            "failed releases",
            ", ".join(standing.failed[-3:]) or "none",
            "They are not tried again here; order redeploy when the cause was this device.",
            fail=False,
            warn=bool(standing.failed),
        ),
        graded(
            "safe mode",
            f"in safe mode since {standing.safe_mode}" if standing.safe_mode else "no",
            "Order redeploy or clear the stay at the hub, or give flaghoist-edge install FILE or leave-safe-mode here.",
            fail=bool(standing.safe_mode),
            warn=False,
        ),
        graded(
            "last error",
            standing.service or "none",
            "Do what it says; it goes away when the release runs again.",
            fail=False,
            warn=bool(standing.service),
        ),
        graded(
            "restarts",
            f"{standing.restarts} of the service",
            "See the service's own log for why it ends.",
            fail=False,
            warn=standing.restarts > 10,
        ),
    ]


def reports(paths: Paths, known: Memory, standing: State) -> Finding:
    """How many reports wait for the hub, and whether there is room for more."""
    waiting = Spool.peek(paths.spool)
    size = spool.held(waiting)
    if any(outbox.is_full(each.outbox) for each in (known, standing)):
        return failed(
            "reports waiting",
            f"{len(waiting)}, and no room for more",
            "Bring the device to its broker, or see why the hub gives no receipts; until then no update begins.",
        )
    return graded(
        "reports waiting",
        f"{len(waiting)} of {size} bytes, of at most {spool.MAX_BYTES}",
        "Bring the device to its broker; nothing is lost until there is no room.",
        fail=False,
        warn=len(waiting) >= WAITING_WARN or size >= spool.MAX_BYTES * 0.9,
    )
