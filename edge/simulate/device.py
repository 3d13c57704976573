"""One simulated device: an agent, its connection, and its update, all driven from outside."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from edge import beliefs
from edge.agent import Agent
from edge.config import Paths, Settings
from edge.errors import NotReady
from edge.identity.identity import Identity
from edge.link import Connected, Disconnected, Event, MqttLink, Published, Received
from edge.machine.clock import SystemClock
from edge.outside import Outside
from edge.simulate.fate import Odds, fate
from edge.simulate.rehearsal import Rehearsal, Wait
from edge.simulate.tally import Tally
from edge.storage.spool import Spool
from edge.updating import child
from edge.updating.secrets import Secrets
from edge.updating.work import Tools
from topics import codec
from topics.channels import UPDATE_RESULT
from topics.documents import Release
from topics.messages import UpdateResult


@dataclass(frozen=True, slots=True)
class Rules:
    """What is the same for every device of a run. `dark_seconds` None keeps a dark device away to the end."""

    settings: Settings
    odds: Odds
    seed: int
    helpers: Executor
    fetch: bool
    dark_seconds: float | None


class Jobs:
    """The update process, as the agent sees it: a rehearsal that is told when its wait is over."""

    def __init__(self, make: Callable[[], Rehearsal], began: Callable[[Release], None]) -> None:
        self._make = make
        self._began = began
        self._steps: Iterator[Wait] | None = None
        self.wait: Wait = 0.0
        self.code = 0
        """How the last run ended, as an exit code."""

    @property
    def busy(self) -> bool:
        """Whether it runs."""
        return self._steps is not None

    def start(self) -> None:
        """Start it."""
        rehearsal = self._make()
        if rehearsal.begins is not None:
            self._began(rehearsal.begins.release)
        self._steps, self.wait = rehearsal.steps(), 0.0

    def step(self) -> None:
        """Go on to the next wait, or to the end."""
        if self._steps is not None:
            try:
                self.wait = next(self._steps)
            except StopIteration:
                self._steps, self.code = None, 0
            except OSError:
                self._steps, self.code = None, 1


class Link(MqttLink):
    """A connection that notes when results go out."""

    def __init__(self, identity: Identity, keepalive: int, note: Callable[[UpdateResult], None]) -> None:
        device = identity.device
        super().__init__(device.mqtt_host, device.mqtt_port, device.device_id, keepalive)
        self._note = note
        self._topic = UPDATE_RESULT.topic(device.fleet, id=device.device_id)

    def publish(self, topic: str, body: bytes, *, qos: int, retain: bool) -> int | None:
        """See `edge.outside.Link`."""
        mid = super().publish(topic, body, qos=qos, retain=retain)
        if mid is not None and topic == self._topic:
            self._note(codec.decode(body, UpdateResult, limit=UPDATE_RESULT.limit))
        return mid


class SimulatedDevice:
    """A device of the fleet. Times are seconds on the monotonic clock; the loop calls, nothing here waits."""

    def __init__(
        self, paths: Paths, rules: Rules, tally: Tally, awake: Callable[[SimulatedDevice], None]
    ) -> None:
        self._identity = Identity(paths)
        self.device_id = self._identity.device.device_id
        self._paths, self._rules, self._tally, self._awake = paths, rules, tally, awake
        self._clock = SystemClock()
        settings = rules.settings
        self.link = Link(
            self._identity,
            settings.keepalive_seconds,
            lambda report: tally.reported(self.device_id, report, time.monotonic()),
        )
        self._jobs = Jobs(
            self._rehearsal,
            lambda release: tally.began(self.device_id, self.segment, release.id, time.monotonic()),
        )
        self._spool = Spool(paths.spool)
        self.agent = Agent(
            Outside(
                paths,
                settings,
                self._identity.device,
                self._clock,
                self.link,
                self._jobs,
                self._spool,
                os.urandom,
            )
        )
        self.connected = self.ever_connected = self.dark = False
        self.last_reason = ""
        self.connect_at: float | None = None
        self._job_at: float | None = None
        self._told = False
        self._failures = 0
        self._read_at = 0.0

    @property
    def busy(self) -> bool:
        """Whether an update, or a look after the running release, is under way."""
        return self._jobs.busy

    @property
    def segment(self) -> str:
        """The device's present segment."""
        return self.agent.memory.segment

    @property
    def due(self) -> float | None:
        """When `turn` is wanted; a connection that is due is `connect`'s business."""
        times = [self.agent.deadline, self.link.deadline, self._job_at]
        return min((at for at in times if at is not None), default=None)

    def start(self) -> None:
        """Let the agent begin."""
        self.connect_at = time.monotonic()
        self.agent.start()
        self._schedule()

    def connect(self) -> None:
        """Make a connection. Waits for TCP and TLS."""
        self.connect_at, self.dark = None, False
        try:
            context = self._identity.tls(clock_ok=self.agent.tls_time)
            topic, body = self.agent.will()
        except (OSError, NotReady) as error:
            self._lost(str(error))
        else:
            self.link.open(context, topic, body)

    def read(self, *, writable: bool, readable: bool) -> None:
        """Take from and give to the socket; what came is handled by `turn`."""
        if writable:
            self.link.writable()
        if readable:
            self._read_at = time.monotonic()
            self.link.readable()
        while self.link.has_more():
            self.link.readable()

    def turn(self) -> None:
        """Handle what has come, and do what is due."""
        while events := self.link.events():
            for event in events:
                self._handle(event)
        self.link.misc()
        self.agent.tick()
        now = time.monotonic()
        if self._job_at is not None and now >= self._job_at:
            self._step()
        self._schedule()

    def work_done(self) -> None:
        """What the update waited for is done."""
        self._job_at = time.monotonic()
        self.turn()

    def leave(self) -> None:
        """Say goodbye; the loop lets it go out."""
        if self.connected:
            self.agent.goodbye()

    def close(self) -> None:
        """End without a trace in the broker, and close the files."""
        self.link.close()
        self._spool.close()

    def _handle(self, event: Event) -> None:
        match event:
            case Connected():
                self.connected = self.ever_connected = True
                self._failures = 0
                self.agent.on_connected()
            case Received(topic, body):
                self.agent.on_message(topic, body)
                if topic == beliefs.topics_of(self.agent.memory, self.device_id)[1]:
                    self._note_manifest()
            case Published(mid, code):
                self.agent.on_published(mid, code)
            case Disconnected(reason):
                self._lost(reason)

    def _note_manifest(self) -> None:
        held = self.agent.beliefs.manifest
        if held is not None and held.candidate is not None:
            paused = held.manifest.paused
            self._tally.offered(self.device_id, self.segment, held.candidate.id, self._read_at, paused=paused)

    def _lost(self, reason: str) -> None:
        if self.connected:
            self.connected = False
            self.agent.on_disconnected()
        self.last_reason = reason
        if self.dark:
            away = self._rules.dark_seconds
            self.connect_at = None if away is None else time.monotonic() + away
            return
        settings = self._rules.settings
        cap = min(settings.backoff_base_seconds * 2 ** min(self._failures, 30), settings.backoff_cap_seconds)
        self._failures += 1
        self.connect_at = time.monotonic() + random.random() * cap  # noqa: S311  (spreads load)

    def _go_dark(self, release: Release) -> None:
        self.dark = True
        self._tally.went_dark(self.device_id, self.segment, release.id)
        self.link.drop("the simulated device went dark")

    def _step(self) -> None:
        self._job_at = None
        if self.dark:
            # Whatever was under way stands still until power returns.
            return
        self._jobs.step()
        if self._told:
            self._told = False
            self.agent.on_progress()
        if not self._jobs.busy:
            self.agent.on_job_end(self._jobs.code)

    def _schedule(self) -> None:
        """See that the update is woken when its wait is over."""
        if not self._jobs.busy or self._job_at is not None or self.dark:
            return
        wait, self._jobs.wait = self._jobs.wait, 0.0
        if isinstance(wait, Future):
            self._job_at = float("inf")
            wait.add_done_callback(lambda _: self._awake(self))
        else:
            self._job_at = time.monotonic() + wait

    def _rehearsal(self) -> Rehearsal:
        rules = self._rules
        tools = Tools(
            paths=self._paths,
            settings=rules.settings,
            device=self._identity.device,
            variables={},
            secrets=Secrets(),
            clock=self._clock,
            fetcher=lambda urls: child.fetcher(rules.settings, self._identity, urls, self._clock),
            tell=self._tell,
            boot="",
            restart=lambda: "a simulated device has no machine to restart",
        )
        return Rehearsal(
            tools,
            lambda release: fate(rules.odds, rules.seed, self.device_id, release.id),
            self._go_dark,
            rules.helpers,
            fetch=rules.fetch,
        )

    def _tell(self) -> None:
        self._told = True
