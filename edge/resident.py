"""`run` and `once`: put the agent together and let it run."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path

from edge import config, safemode
from edge.agent import Agent
from edge.config import Paths
from edge.errors import NotReady, Unreachable
from edge.identity.identity import Device, Identity
from edge.identity.renewal import SPREAD, Renewal
from edge.link import MqttLink
from edge.logs import book
from edge.logs.uplink import Uplink
from edge.machine.clock import SystemClock
from edge.machine.notify import Notifier
from edge.machine.starts import Watch
from edge.outside import Outside
from edge.polling import process
from edge.polling.choice import Way
from edge.polling.link import HttpsLink
from edge.polling.process import Exchange
from edge.polling.ways import Ways
from edge.runner import Runner
from edge.selfupdate import launcher
from edge.storage.linknote import LinkNote
from edge.storage.spool import Spool
from edge.updating import jobs, restart
from edge.updating.jobs import Child, Forked

log = logging.getLogger("flaghoist")


def run(paths: Paths, arguments: list[str], *, once: bool) -> int:
    """Run the agent; with `once` until it has done what is to be done. Raises `EdgeError`."""
    book.setup(paths, book.AGENT)
    identity = Identity(paths)
    settings = config.load_settings(paths.root)
    try:
        config.load_variables(paths.root)
    except NotReady as error:
        # Told now rather than in an update; the link to the hub stays, or nobody could help from afar.
        log.warning("%s; no update succeeds before that", error)
    paths.make()
    lock = hold(paths.root / "lock")
    device = identity.device
    child = _copied(paths) if once else Child(lambda: jobs.command(paths))
    mqtt = MqttLink(device.mqtt_host, device.mqtt_port, device.device_id, settings.keepalive_seconds)
    https = HttpsLink(Exchange(process.command(paths)), device.fleet, device.device_id, lambda: agent.memory)
    link = Ways(mqtt, https, settings, paths, hurried=once)
    try:
        spool = Spool(paths.spool)
        agent = Agent(Outside(paths, settings, device, SystemClock(), link, child, spool, os.urandom))
    except OSError as error:
        raise NotReady(
            f"cannot write in {paths.root} ({error.strerror}); make room and start again"
        ) from None
    starts = Watch(paths, settings)
    safemode.look_for_a_loop(agent, starts, restart.boot(), time.monotonic())
    manager, note = Notifier(os.environ, os.getpid()), LinkNote(paths)
    logs = Uplink(paths, settings, agent.send_log, time.monotonic)
    logging.getLogger().addHandler(logs)
    renewal = Renewal(paths, settings, device.device_id, spread=0.0 if once else SPREAD)
    runner = Runner(agent, link, child, identity, settings, manager, note, starts, logs, renewal)
    try:
        ending = runner.once() if once else runner.run()
    finally:
        logging.getLogger().removeHandler(logs)
        spool.close()
        os.close(lock)
    if ending == "unreachable":
        raise Unreachable(f"{_unreached(device, link.reasons)}; run flaghoist-edge diagnose to see why")
    if ending == "restart":
        launcher.again(arguments)
    return 0


def _copied(paths: Paths) -> Child:
    from edge.updating import child

    return Forked(lambda pipe, parent: child.run(paths, tell=pipe, parent=parent))


def _unreached(device: Device, reasons: dict[Way, str]) -> str:
    """Return why no way led to the hub."""
    told = []
    if "mqtt" in reasons:
        told.append(f"no broker answers at {device.mqtt_host}:{device.mqtt_port} ({reasons['mqtt']})")
    if "https" in reasons:
        told.append(reasons["https"])
    return ", and ".join(told) or "nothing answers in time"


def hold(path: Path) -> int:
    """Hold the state directory by the lock at `path`; raises `NotReady` when another process does.

    A lock that a killed process held is gone with it.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise NotReady(
            f"another flaghoist-edge works in {path.parent}; stop it first, or name another --state"
        ) from None
    return handle
