"""All checks of `flaghoist-edge diagnose`, in the order in which one leads to the next."""

from __future__ import annotations

from edge import config
from edge.config import Paths, Settings
from edge.diagnose import contact, disk, machine, network, privacy, release, trust
from edge.diagnose.catalogue import complete, reading
from edge.diagnose.finding import Finding
from edge.errors import NotReady
from edge.identity import identity
from edge.identity.identity import Identity
from edge.machine import clock
from edge.machine.clock import SystemClock
from edge.polling import choice, notes
from edge.storage import anchor, linknote, memory, state
from edge.storage.memory import Memory
from edge.storage.state import State
from topics import channels


def gather(paths: Paths, system: SystemClock, *, step_seconds: float = network.STEP_SECONDS) -> list[Finding]:
    """Look at everything, and return one finding for each check.

    Writes nothing of the agent's, and needs neither network nor hub nor enrolment. `step_seconds` is the time limit of
    each step on the way to the broker. Raises `OSError` when the machine itself cannot be read.
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
        return complete(findings, "there is no identity")
    findings += trust.settings(paths)
    findings += trust.certificates(paths, wall)
    findings += trust.files(paths)
    busy = release.is_running(paths)
    settings = _settings(paths)
    findings += reading(privacy.CHECK, lambda: [privacy.check(paths, settings, who.folder)])
    findings += release.agent(paths, busy)
    findings += reading("starts", lambda: [contact.row(paths, settings)])
    if known is None:
        return complete(findings, "there is no memory")
    standing = _state(paths)
    if standing is None:
        return complete(findings, "there is no state that can be read")
    note = linknote.read(paths)
    connected = busy and note is not None and note[0]
    findings.append(contact.transport(paths, settings, wall // 1000))
    findings.append(contact.last(paths, known, wall // 1000, connected=connected))
    findings += trust.believed(known, who.device, wall)
    findings.append(trust.refusals(known))
    findings += reading("files", lambda: release.installed(paths, standing))
    findings += reading("hook", lambda: release.hook(paths, who.device, known, standing, settings))
    findings += release.history(standing)
    findings.append(contact.coming(who.device, settings, known, standing, wall))
    findings += reading("reports waiting", lambda: [release.reports(paths, known, standing)])
    findings += reading("oldest report", lambda: [contact.oldest(paths, wall // 1000)])
    findings += network.check(_way(paths, who, known, settings, wall, step_seconds, busy=busy))
    return complete(findings, "there is nothing to look at yet")


def _way(
    paths: Paths, who: Identity, known: Memory, settings: Settings, wall: int, seconds: float, *, busy: bool
) -> network.Way:
    device = who.device
    return network.Way(
        identity=who,
        settings=settings,
        topics=channels.device_subscriptions(device.fleet, device.device_id, known.role, known.segment),
        clock_ok=clock.judge(known.trust, wall).ok,
        busy=busy,
        boot=known.boot,
        at=max(0, wall // 1000),
        seconds=seconds,
        https=choice.choose(notes.read(paths), settings.transport, wall / 1000) == "https",
    )


def _identity(paths: Paths) -> tuple[Identity | None, str]:
    try:
        return identity.Identity(paths), ""
    except NotReady as error:
        return None, str(error)


def _memory(paths: Paths, who: Identity | None) -> Memory | None:
    try:
        return (memory.load(paths) or anchor.recall(paths, who.device.fleet)) if who else None
    except (NotReady, OSError):
        return None


def _state(paths: Paths) -> State | None:
    try:
        return state.load(paths)
    except NotReady:
        return None


def _settings(paths: Paths) -> Settings:
    try:
        return config.load_settings(paths.root)
    except NotReady:
        return Settings()  # told by a check of its own
