"""The update process: started by the agent, ends with the update, dies with the agent."""

from __future__ import annotations

import contextlib
import logging
import os
import ssl

from edge import config, web
from edge.config import Paths, Settings
from edge.download.fetch import HUB_PATH, Fetcher, Sources
from edge.identity import renewal, renewing, roots
from edge.identity.identity import Identity
from edge.logs import book
from edge.machine.clock import SystemClock
from edge.machine.parent import die_with
from edge.updating import restart, secrets
from edge.updating.update import Updater
from edge.updating.work import Tools

log = logging.getLogger("flaghoist")


def run(paths: Paths, *, tell: int | None, parent: int | None) -> int:
    """Carry the update in the state directory to its end. Raises `EdgeError`."""
    book.setup(paths, book.UPDATE)
    # Two update processes may not write `state`.
    if parent is not None and not die_with(parent):
        return 1
    settings = config.load_settings(paths.root)
    identity = Identity(paths)
    clock = SystemClock()
    tools = Tools(
        paths=paths,
        settings=settings,
        device=identity.device,
        variables=config.load_variables(paths.root),
        secrets=secrets.of(paths, settings),
        clock=clock,
        fetcher=lambda urls: fetcher(settings, identity, urls, clock),
        tell=lambda: _tell(tell),
        boot=restart.boot(),
        restart=lambda: restart.ask(
            settings.reboot_command,
            paths.run,
            limit=settings.hook_seconds,
            patience=settings.reboot_seconds,
        ),
    )
    try:
        if roots.is_asked(paths):
            roots.fetch(paths, identity.device.http_url, tls(identity))
        if renewal.is_asked(paths):
            renewing.fetch(paths, clock)
        Updater(tools).run()
    except OSError as error:
        log.warning("stopped: %s", error)
        return 1
    return 0


def _tell(pipe: int | None) -> None:
    if pipe is not None:
        # A parent that is gone is no reason to stop in mid-step; the kernel ends us anyway.
        with contextlib.suppress(OSError):
            os.write(pipe, b".")


def fetcher(settings: Settings, identity: Identity, urls: list[str], clock: SystemClock) -> Fetcher:
    """Return what downloads from `urls` in the name of this device."""
    mirror = [settings.mirror.rstrip("/") + HUB_PATH] if settings.mirror else []
    sources = Sources(
        urls=[*mirror, *urls],
        hub=identity.device.http_url,
        token=lambda now: identity.token(now, os.urandom(8).hex()),
        tls=lambda: tls(identity),
    )
    return Fetcher(settings, sources, clock.wall)


def tls(identity: Identity) -> ssl.SSLContext:
    """Return what checks the hub's and mirrors' certificates."""
    # Either way hashes and signatures decide.
    return web.checked(identity.folder / "ca.pem")
