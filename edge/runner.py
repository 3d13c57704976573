"""One thread on one selector: it sleeps until the broker, the update process, a signal or a timer speaks."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import time
from typing import Any, Final, Literal

from edge.agent import Agent
from edge.config import Settings
from edge.identity.identity import Identity
from edge.identity.renewal import Renewal
from edge.link import Connected, Disconnected, Event, Published, Received
from edge.logs.uplink import Uplink
from edge.machine.notify import Notifier
from edge.machine.starts import Watch
from edge.polling.ways import Ways
from edge.storage.linknote import LinkNote
from edge.updating import schedule
from edge.updating.jobs import Child

STABLE: Final = 60.0
"""Seconds that a connection must last before the wait for the next one starts small again: two devices with
one identity, which throw each other off the broker, otherwise do so without end."""
BRIEF: Final = 5
"""Connections in a row that did not last, after which a copied identity is the likely reason."""
COPIED: Final = (
    "connections end soon after they were made, again and again, as when two devices have one identity; if this disk "
    "is a copy, enrol the device anew under an id of its own"
)
RENEWED: Final = "the credentials were renewed; connecting with them"
PATIENCE: Final = 30.0
"""Seconds in which `once` waits for receipts and for its own goodbye."""
Ending = Literal["stopped", "restart", "done", "unreachable"]

log = logging.getLogger("flaghoist")


class Runner:
    """Runs an agent on a link and a child process."""

    def __init__(
        self,
        agent: Agent,
        link: Ways,
        child: Child,
        identity: Identity,
        settings: Settings,
        manager: Notifier,
        note: LinkNote,
        starts: Watch,
        logs: Uplink,
        renewal: Renewal,
    ) -> None:
        self._agent, self._link, self._child = agent, link, child
        self._manager, self._note, self._starts, self._logs = manager, note, starts, logs
        self._identity, self._renewal = identity, renewal
        self._settings = settings
        self._selector = selectors.DefaultSelector()
        self._watched: dict[str, tuple[Any, int]] = {}
        self._failures = 0
        self._brief = 0
        self._connect_at: float | None = 0.0
        self._connected_at: float | None = None
        self._last_reason = ""
        self._stop = False
        self._stays = True

    def run(self) -> Ending:
        """Run until SIGTERM or SIGINT, or until a command asks for a new start."""
        with self._signals():
            self._agent.start()
            # Ready without a connection: what waits for this unit must not wait for a network.
            self._manager.tell("READY=1", "STATUS=not connected yet")
            while not self._stop and not self._agent.restart_wanted:
                self._step(None)
            self._manager.tell("STOPPING=1" if self._stop else "STATUS=starting anew")
            self._leave()
            self._starts.end()
        return "restart" if self._agent.restart_wanted and not self._stop else "stopped"

    def once(self) -> Ending:
        """Run until everything retained was heard, acted on and receipted; then say when it wakes next."""
        ending: Ending = "done"
        self._stays = False
        with self._signals():
            self._agent.start()
            quiet_since = time.monotonic()
            while not self._stop and not self._agent.settled and not self._agent.restart_wanted:
                if self._child.busy:
                    quiet_since = time.monotonic()  # an update takes the time it takes
                # Time for each of the ways that are tried one after the other.
                patience = self._settings.settle_seconds * (2 if self._settings.transport == "auto" else 1)
                if self._connected_at is not None:
                    patience += PATIENCE
                if time.monotonic() >= quiet_since + patience:
                    ending = "unreachable" if self._connected_at is None else "done"
                    break
                self._step(quiet_since + patience)
            if self._agent.restart_wanted:
                ending = "restart"
            elif self._connected_at is not None:
                self._agent.sleep_until(int(time.time() + self._agent.update_interval))
            self._leave(goodbye=False)
            if self._stop:
                self._starts.end()
            else:
                self._starts.done()
        return "stopped" if self._stop else ending

    def _step(self, until: float | None) -> None:
        """Wait for one thing to happen and hand it on."""
        now = time.monotonic()
        if self._connect_at is not None and now >= self._connect_at:
            self._connect_at = None
            self._connect()
        self._deliver()
        self._watch()
        own = [self._manager.deadline, self._starts.deadline]
        times = [self._agent.deadline, self._link.deadline, self._connect_at, *own, until]
        due = min((at for at in times if at is not None), default=None)
        if self._link.has_more():
            timeout: float | None = 0.0
        else:
            timeout = None if due is None else max(0.0, due - time.monotonic())
        for key, mask in self._selector.select(timeout):
            self._ready(str(key.data), mask)
        if self._link.has_more():
            self._link.readable()
        self._link.misc()
        self._agent.tick()
        self._deliver()
        self._manager.turned(time.monotonic())
        self._starts.turned(time.monotonic())
        self._renewal.turned(self._agent, busy=self._child.busy)

    def _ready(self, what: str, mask: int) -> None:
        if what == "link":
            if mask & selectors.EVENT_WRITE:
                self._link.writable()
            if mask & selectors.EVENT_READ:
                self._link.readable()
        elif what == "child":
            code = self._child.readable()
            self._logs.catch_up()
            if code is None:
                self._agent.on_progress()
            else:
                renewed = self._renewal.ended()
                self._agent.on_job_end(code)
                if renewed:
                    self._connect_anew()
        else:
            os.read(self._wakeup, 64)

    def _deliver(self) -> None:
        while events := self._link.events():
            for event in events:
                self._handle(event)

    def _handle(self, event: Event) -> None:
        match event:
            case Connected():
                log.info("connected over %s", self._link.way.upper())
                self._manager.tell(f"STATUS=connected over {self._link.way.upper()}")
                self._note.write(int(time.time()), connected=True, reason="")
                self._connected_at = time.monotonic()
                self._agent.on_connected()
            case Received(topic, body):
                self._agent.on_message(topic, body)
            case Published(mid, code):
                self._agent.on_published(mid, code)
            case Disconnected(reason):
                self._lost(reason)

    def _lost(self, reason: str) -> None:
        now = time.monotonic()
        if self._connected_at is not None:
            if now - self._connected_at >= STABLE:
                self._failures = self._brief = 0
            else:
                self._brief += 1
            self._connected_at = None
            self._agent.on_disconnected()
            if self._brief >= BRIEF and self._link.way == "mqtt":
                reason = f"{reason}; {COPIED}"
        self._connect_at = now + schedule.reconnect(self._settings, self._failures)
        self._failures += 1
        level = logging.INFO if reason == self._last_reason else logging.WARNING
        log.log(level, "not connected: %s", reason)
        self._manager.tell(f"STATUS=not connected: {reason}")
        self._note.write(int(time.time()), connected=False, reason=reason)
        self._last_reason = reason
        self._renewal.refused(self._agent, reason, busy=self._child.busy)

    def _connect_anew(self) -> None:
        """Go over to the credentials that are in place now; over HTTPS they are used as they are.

        `once` ends the connection that it has with its word of when it wakes, and uses them then.
        """
        if self._connect_at is not None:
            log.info(RENEWED)
            self._connect_at = time.monotonic()
        elif self._link.way == "mqtt" and self._stays:
            # In good order: the device is back in a moment, and nobody needs its last will.
            self._link.close()
            self._lost(RENEWED)

    def _connect(self) -> None:
        try:
            topic, body = self._agent.will()
            self._link.open(lambda: self._identity.tls(clock_ok=self._agent.tls_time), topic, body)
        except OSError as error:
            self._lost(str(error))

    def _watch(self) -> None:
        """Bring the selector's list in line with what there is to watch."""
        link_mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._link.wants_write else 0)
        wanted = {
            "link": (self._link.socket(), link_mask),
            "child": (self._child.pipe, selectors.EVENT_READ),
        }
        # All that is gone goes first: what is new often has the number of something that was closed.
        for name, known in list(self._watched.items()):
            if known != wanted[name]:
                # A file that was closed is gone from epoll already.
                with contextlib.suppress(KeyError, ValueError, OSError):
                    self._selector.unregister(known[0])
                del self._watched[name]
        for name, (file, mask) in wanted.items():
            if file is not None and name not in self._watched:
                self._selector.register(file, mask, name)
                self._watched[name] = (file, mask)

    def _leave(self, *, goodbye: bool = True) -> None:
        """Say goodbye, if somebody listens, and end."""
        if self._connected_at is not None:
            if goodbye:
                self._agent.goodbye()
            # Whoever stops the agent does not wait; what `once` says last is what it is known by until it wakes.
            end = time.monotonic() + min(2.0 if goodbye else PATIENCE, self._settings.settle_seconds)
            while self._agent.awaiting and self._link.socket() is not None and time.monotonic() < end:
                self._watch()
                for key, mask in self._selector.select(max(0.0, end - time.monotonic())):
                    if key.data == "link":
                        self._ready("link", mask)
                self._deliver()
                self._link.misc()
        self._link.close()
        self._child.kill()

    @contextlib.contextmanager
    def _signals(self) -> Any:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        self._wakeup = reading
        old_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        old = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        self._selector.register(reading, selectors.EVENT_READ, "signal")
        try:
            yield
        finally:
            signal.set_wakeup_fd(old_fd)
            for number, handler in old.items():
                signal.signal(number, handler)
            self._selector.close()
            os.close(reading)
            os.close(writing)

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self._stop = True
