"""`flaghoist-edge diagnose`: all checks, in the order in which one leads to the next."""

from __future__ import annotations

import json

from edge import config
from edge.config import Paths, Settings
from edge.diagnose import disk, finding, machine, network, release, trust
from edge.diagnose.finding import Finding, skipped
from edge.errors import NotReady
from edge.identity import identity
from edge.identity.identity import Identity
from edge.machine import clock
from edge.machine.clock import SystemClock
from edge.storage import anchor, memory, state
from edge.storage.memory import Memory
from topics import channels


def run(paths: Paths, *, as_json: bool) -> tuple[str, int]:
    """Return what to print, and the exit code: 1 when a check failed, else 0. Raises `OSError`."""
    findings = gather(paths, SystemClock())
    said = json.dumps(finding.as_json(findings), indent=2) if as_json else finding.text(findings)
    return said, 1 if finding.verdict(findings) == "fail" else 0


def gather(paths: Paths, system: SystemClock, *, step_seconds: float = network.STEP_SECONDS) -> list[Finding]:
    """Look at everything. Writes nothing of the agent's, and needs neither network nor hub nor enrolment.

    `step_seconds` is the time limit of each step on the way to the broker.
    """
    who, problem = _identity(paths)
    known = _memory(paths, who)
    wall = system.wall()
    marks = known.trust.marks.values() if known else ()
    newest = max((mark.issued_at for mark in marks), default=0)
    findings = machine.check(machine.read(paths.root, wall=wall, newest=newest))
    findings += disk.check(machine.standing(paths.root))
    findings += trust.enrolled(paths, who.device if who else None, problem)
    if who is None:
        return [*findings, skipped("trust, release and network", "there is no identity")]
    findings += trust.settings(paths)
    findings += trust.certificates(who.folder, wall)
    findings += trust.files(paths)
    busy = release.is_running(paths)
    findings += release.agent(paths, busy)
    if known is None:
        return [*findings, skipped("trust, release and network", "there is no memory")]
    findings += trust.believed(known, who.device, wall)
    findings.append(trust.refusals(known))
    settings = _settings(paths)
    standing = state.load(paths)
    findings += release.installed(paths, standing)
    findings += release.hook(paths, who.device, known, standing, settings)
    findings += release.history(standing)
    findings.append(release.reports(paths))
    device = who.device
    way = network.Way(
        identity=who,
        settings=settings,
        topics=channels.device_subscriptions(device.fleet, device.device_id, known.role, known.segment),
        clock_ok=clock.judge(known.trust, wall).ok,
        busy=busy,
        boot=known.boot,
        at=max(0, wall // 1000),
        seconds=step_seconds,
    )
    return findings + network.check(way)


def _identity(paths: Paths) -> tuple[Identity | None, str]:
    try:
        return identity.Identity(paths), ""
    except NotReady as error:
        return None, str(error)


def _memory(paths: Paths, who: Identity | None) -> Memory | None:
    try:
        return (memory.load(paths) or anchor.recall(paths, who.device.fleet)) if who else None
    except NotReady:
        return None


def _settings(paths: Paths) -> Settings:
    try:
        return config.load_settings(paths.root)
    except NotReady:
        return Settings()  # told by a check of its own
