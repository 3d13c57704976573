"""The agent: events in, effects out. It owns no socket, process or clock; those are handed to it.

Each event (a connection, a message, the update process speaking or ending, time passing) changes what is
believed or known, is made durable, and leads to at most one decision. A message that is wrong in any way is
logged with its topic and changes nothing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Final

from edge import beliefs, commands, heartbeat, presence, safemode
from edge.beliefs import Beliefs, Refusal
from edge.connection import Connection
from edge.identity import roots
from edge.machine import clock, facts, probes
from edge.outbound import Outbound
from edge.outside import Outside
from edge.selfupdate.standing import Standing
from edge.storage import anchor, memory, records
from edge.storage.beats import Beats
from edge.storage.ledger import Ledger
from edge.storage.memory import Memory
from edge.storage.state import State
from edge.updating import attempts, schedule
from topics import channels, codec
from topics.eligibility import Decision
from topics.errors import ContractError
from topics.messages import Log, LogLine, Receipt
from topics.trust import Clock

MAX_STARTS: Final = 8
"""Starts of the update process before anything was changed, after which an attempt counts as failed."""

log = logging.getLogger("flaghoist")


class Agent:
    """One device's agent. Times are seconds on the monotonic clock unless they say otherwise."""

    def __init__(self, outside: Outside) -> None:
        self._out = outside
        self._paths, self._settings = outside.paths, outside.settings
        self._outbound = Outbound(
            outside.link,
            outside.spool,
            self._settings,
            fleet=outside.device.fleet,
            device_id=outside.device.device_id,
            steady=outside.clock.steady,
            beats=Beats(self._paths.beats),
        )
        booted = memory.booted(
            anchor.need(self._paths, outside.device.fleet), outside.clock.wall(), outside.entropy(4)
        )
        held = beliefs.reopen(
            booted, outside.device.device_id, clock.judge(booted.trust, outside.clock.wall())
        )
        self._kept = Ledger(self._paths, held, self._outbound, outside.jobs)
        self._standing = Standing(self._paths)
        self._connection = Connection()
        self._seq = 0
        self._refusals: dict[str, tuple[str, bytes]] = {}
        self._verdict: Decision = Decision("nothing_offered")
        self._heartbeat_at: float | None = None
        self._wake_at: float | None = None
        self._check_at: float | None = None
        self._respawns = 0
        self._pause = schedule.Pause()
        self.restart_wanted, self.trouble = False, ""

    # Events

    def start(self) -> None:
        """Begin: carry on what was under way, and see that the committed release runs."""
        try:
            self._kept.believe(self.beliefs)
        except OSError as error:
            # The boot counter is not worth stopping for; its random part still tells the starts apart.
            log.warning("cannot write %s: %s", self._paths.memory, error.strerror)
        self._heartbeat_at = schedule.next_heartbeat(
            self._out.device.device_id, self._now, self.update_interval
        )
        with self._guard():
            safemode.note_loss(self, self._paths)
            self._kept.drain()
            self._job()

    def will(self) -> tuple[str, bytes]:
        """Count a connection; return topic and body of the last will that the next one leaves."""
        self._kept.count_connection()
        return self._outbound.topic("presence"), codec.encode(presence.build(self.memory, "offline", 0))

    def on_connected(self) -> None:
        """A connection stands."""
        self._standing.reached()
        self._connection.begin(self._now)
        self._out.link.subscribe(self._subscriptions())
        self._outbound.connected()
        with self._guard():
            if self._clock.ok:
                self._outbound.forget_old(self.wall)
        self._outbound.send("presence", presence.build(self.memory, "online", self.wall))
        self._heartbeat()
        self._outbound.pump()

    def on_disconnected(self) -> None:
        """The connection is gone; the device goes on without it."""
        self._connection.end()
        self._outbound.disconnected()

    def on_message(self, topic: str, body: bytes) -> None:
        """Something arrived. Whatever it is, later messages are still heard."""
        try:
            self._connection.hear(topic)
            if topic == self._outbound.topic("receipt"):
                receipt = codec.decode(body, Receipt, limit=channels.UPLINK_LIMIT)
                self._outbound.receipt(receipt)
            elif body:
                self._judge(topic, body)
        except ContractError as error:
            log.warning("%s: %s", topic, error)
        except OSError as error:
            # Not believed before it is on disk, or a restart would open the door to replays.
            log.warning("%s: cannot be written down for now: %s", topic, error.strerror)
            if topic in beliefs.topics_of(self.memory, self._out.device.device_id):
                self._connection.unwritten[topic] = body
            self._wake_in(self._settings.resend_seconds)
        except Exception:
            log.exception("%s: the agent's own fault; the message is passed over", topic)

    def on_published(self, mid: int, reason_code: int) -> None:
        """The broker answered a publish."""
        self._outbound.published(mid, reason_code)

    def on_progress(self) -> None:
        """The update process has made a transition durable."""
        with self._guard():
            self._progress()

    def on_job_end(self, code: int) -> None:
        """The update process has ended, by itself or not."""
        with self._guard():
            self._job_end(code)

    def tick(self) -> None:
        """Time has passed: do what is due."""
        with self._guard():
            self._tick()

    def _progress(self) -> None:
        self._kept.reread()
        self._heartbeat()

    def _job_end(self, code: int) -> None:
        was = self.state
        self._kept.reread()
        self._standing.came_up()
        if self._standing.superseded:
            log.info("the agent starts anew as another build of itself")
            self.restart_wanted = True
            return
        under_way = self._kept.under_way
        if under_way is not None:
            log.warning("the update process ended with %d while %s", code, under_way.state)
            if under_way.starts >= MAX_STARTS and under_way.state in ("downloading", "verified", "staged"):
                self.change_state(attempts.given_up(self.state, self._out.clock.wall(), self.memory.boot))
            else:
                self._wake_in(schedule.jitter(self._settings, self._respawns))
                self._respawns += 1
                self._heartbeat()
                return
        self._plan_check(code)
        self._take_roots()
        if self.state != was:
            self._heartbeat()
        self.consider()

    def _plan_check(self, code: int) -> None:
        pause = self._settings.check_seconds
        if code:
            # What it was about (a repair, a confirmation, tidying up) is not put off to the next regular look.
            log.warning("the update process ended with %d", code)
            pause = min(pause, schedule.jitter(self._settings, self._respawns))
        self._respawns = self._respawns + 1 if code else 0
        self._check_at = self._now + pause

    def _tick(self) -> None:
        now = self._now
        self._outbound.tick()
        if self._wake_at is not None and now >= self._wake_at:
            self._wake_at = None
            unwritten, self._connection.unwritten = self._connection.unwritten, {}
            for topic, body in unwritten.items():
                self.on_message(topic, body)
            if self._kept.under_way is not None and not self._out.jobs.busy:
                self._job()
            self.consider()
        due = now
        if self._heartbeat_at is not None and now >= self._heartbeat_at:
            self._heartbeat(regular=True)
            self.consider()
            due = self._heartbeat_at  # the next one: a look that would wake the device before it is had now
        if self._check_at is not None and due >= self._check_at and not self._out.jobs.busy:
            self._job()

    @property
    def deadline(self) -> float | None:
        """When `tick` is wanted, on the monotonic clock."""
        check = self._check_at if not self._out.jobs.busy else None
        times = [self._outbound.deadline, self._heartbeat_at, self._wake_at, check]
        return min((time for time in times if time is not None), default=None)

    @property
    def settled(self) -> bool:
        """Whether everything retained was heard, nothing runs and every report has its receipt."""
        wanted = beliefs.topics_of(self.memory, self._out.device.device_id)[1:]
        heard = self._connection.has_heard(wanted)
        quiet = not self._out.jobs.busy and self._kept.under_way is None and not self._outbound.awaiting
        return heard and quiet and not self._outbound.depth

    @property
    def awaits_offer(self) -> bool:
        """Whether what the hub offers now may still be on its way."""
        offers = beliefs.topics_of(self.memory, self._out.device.device_id)[1]
        return self._connection.may_still_say(offers, self._now)

    @property
    def awaiting(self) -> int:
        """Publishes that the broker has not acknowledged."""
        return self._outbound.awaiting

    @property
    def tls_time(self) -> bool:
        """Whether the clock may judge dates in certificates."""
        return self._clock.ok

    @property
    def update_interval(self) -> float:
        """Seconds between heartbeats."""
        return self._settings.heartbeat_seconds or self.memory.update_interval

    @property
    def next_heartbeat(self) -> float | None:
        """When the next regular heartbeat is due, on the monotonic clock."""
        return self._heartbeat_at

    def send_log(self, line: LogLine) -> None:
        """Tell the hub of a line of this device's log, if it is connected."""
        self._outbound.send("log", Log(boot=self.memory.boot, at=max(0, self.wall), lines=[line]))

    def sleep_until(self, next_wake: int) -> None:
        """Say that the device sleeps until `next_wake` (s since the epoch)."""
        self._outbound.send(
            "presence", presence.build(self.memory, "sleeping", self.wall, next_wake=next_wake)
        )

    def goodbye(self) -> None:
        """Say that the device goes offline in good order."""
        self._outbound.send("presence", presence.build(self.memory, "offline", self.wall))

    # Judging what arrives

    def _judge(self, topic: str, body: bytes) -> None:
        before = self.beliefs
        outcome = beliefs.take(before, self._out.device.device_id, topic, body, self._clock)
        if isinstance(outcome, Refusal):
            self._refused(outcome, body)
            return
        was_refused = self._refusals.pop(topic, None) is not None
        if outcome is before:
            if was_refused:
                self.consider()
            return
        self._kept.believe(outcome)
        self._connection.unwritten.pop(topic, None)  # older than this
        self._resubscribe(before)
        if outcome.memory.trust.root is not before.memory.trust.root:
            # What only the new keys sign may have come before them.
            for refused_topic, (_, refused_body) in list(self._refusals.items()):
                self._judge(refused_topic, refused_body)
        self.consider()

    def _refused(self, refusal: Refusal, body: bytes) -> None:
        log.warning("%s: refused by check %s: %s", refusal.topic, refusal.check, refusal.detail)
        if refusal.topic in beliefs.topics_of(self.memory, self._out.device.device_id):
            self._refusals[refusal.topic] = (refusal.check, body)
        self._verdict = Decision("untrusted", check=refusal.check, detail=refusal.detail)
        if not beliefs.is_reported(self.memory, refusal):
            report = attempts.refusal_report(
                refusal, self.memory, self.state.running_id, self._out.clock.wall()
            )
            self._kept.remember(memory.with_report(memory.with_refusal(self.memory, refusal.key), report))
        self._ask_for_roots(refusal)
        self._heartbeat()

    def _ask_for_roots(self, refusal: Refusal) -> None:
        """A root that does not follow on ours: those between are fetched, once per connection."""
        version = self.memory.trust.root.version
        gap = refusal.check in ("root_threshold", "root_version")
        if gap and refusal.topic == self._root_topic and version not in self._connection.roots_asked:
            self._connection.roots_asked.add(version)
            roots.ask(self._paths, version)
            self._job()

    def _take_roots(self) -> None:
        for body in roots.take(self._paths):
            self.on_message(self._root_topic, body)

    def _resubscribe(self, before: Beliefs) -> None:
        device_id = self._out.device.device_id
        old = beliefs.topics_of(before.memory, device_id)[1]
        if self._connection.online and old != beliefs.topics_of(self.memory, device_id)[1]:
            self._refusals.pop(old, None)
            self._out.link.unsubscribe([old])
            self._out.link.subscribe(self._subscriptions())
            self._heartbeat()

    # Deciding

    def consider(self) -> None:
        """Carry out what is pending and decide anew, unless an update is under way."""
        if self._out.jobs.busy or self._kept.under_way is not None:
            commands.urgent(self)
            return
        safemode.obey(self)
        commands.carry_out(self)
        if not self._out.jobs.busy:
            self._decide(retry=None)

    def decide_now(self, retry: str | None = None) -> Decision:
        """Return what `decide` says at this moment; `retry` is a release that may be tried although it failed."""
        offered = beliefs.topics_of(self.memory, self._out.device.device_id)[1]
        own = facts.of(
            self._out.device,
            self._settings,
            self.beliefs,
            self.state,
            retry=retry,
            refused=self._refusals.get(offered, ("", b""))[0],
        )
        return facts.verdict(self.beliefs, own, self._clock)

    def _decide(self, *, retry: str | None) -> None:
        decision = self.decide_now(retry)
        changed = (decision.reason, decision.release) != (self._verdict.reason, self._verdict.release)
        if self._refusals:
            check = next(iter(self._refusals.values()))[0]
            self._verdict = Decision("untrusted", self._verdict.release, check)
        else:
            self._verdict = decision
        if decision.eligible and not self.crowded:
            wait = self._pause.wait(
                self.beliefs,
                self.state,
                decision,
                self._settings,
                device_id=self._out.device.device_id,
                now=self.now_ms,
                wall=self._out.clock.wall(),
                steady=self._now,
            )
            if wait > 0:
                self._wake_in(wait)
            else:
                self.begin(decision)
                return
        if changed:
            self._heartbeat()

    def begin(self, decision: Decision, *, command: str = "", retry: bool = False) -> None:
        """Start the update that was decided on. Raises `OSError`."""
        begun = attempts.begun(
            self.state, self.beliefs, decision, self._out.clock.wall(), command=command, retry=retry
        )
        self.change_state(begun)
        if self.memory.armed:
            self._kept.remember(records.changed(self.memory, armed=""))
        if begun.update is not None:
            log.info("starting %s (attempt %d)", begun.update.release.id, begun.update.attempt)
        self._job()
        self._heartbeat()

    # Effects that others of the agent's modules use

    @property
    def memory(self) -> Memory:
        """What is believed and done."""
        return self._kept.memory

    @property
    def state(self) -> State:
        """The update's state."""
        return self._kept.state

    @property
    def beliefs(self) -> Beliefs:
        """What is believed, opened."""
        return self._kept.beliefs

    @property
    def crowded(self) -> bool:
        """Whether there is no room for the report of anything that would begin now."""
        return self._kept.crowded

    @property
    def allows_chaos(self) -> bool:
        """Whether this device's own settings let an update be made to fail."""
        return self._settings.chaos

    @property
    def now_ms(self) -> int:
        """The best that is known of the time, in ms."""
        return self.memory.trust.time(self._clock)

    @property
    def wall(self) -> int:
        """The device's clock, in s."""
        return self._out.clock.wall() // 1000

    def change_memory(self, changed: Memory) -> None:
        """Make a new memory durable and send its reports. Raises `OSError`."""
        self._kept.remember(changed)

    def change_state(self, changed: State) -> None:
        """Make a new state durable and send its reports; only while no update process runs. Raises `OSError`."""
        self._kept.advance(changed)

    def report_now(self) -> None:
        """Send a heartbeat at once."""
        self._heartbeat()

    def check_now(self) -> None:
        """Start the update process to see that things are as `state` says."""
        self._job()

    # Small tools

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """A full disk, or no room for a process, stops one step; it is tried again later."""
        try:
            yield
        except OSError as error:
            log.warning("not done for now: %s", error)
            self._wake_in(self._settings.resend_seconds)

    @property
    def _root_topic(self) -> str:
        return channels.TRUST_ROOT.topic(self._out.device.fleet)

    @property
    def _now(self) -> float:
        return self._out.clock.steady()

    @property
    def _clock(self) -> Clock:
        return clock.judge(self.beliefs.memory.trust, self._out.clock.wall())

    def _subscriptions(self) -> list[tuple[str, int]]:
        return channels.device_subscriptions(
            self._out.device.fleet, self._out.device.device_id, self.memory.role, self.memory.segment
        )

    def _job(self) -> None:
        if self._out.jobs.busy:
            return
        self._check_at = None
        self._kept.count_start()
        self._out.jobs.start()

    def _wake_in(self, seconds: float) -> None:
        at = self._now + max(0.0, seconds)
        self._wake_at = at if self._wake_at is None else min(self._wake_at, at)

    def _heartbeat(self, *, regular: bool = False) -> None:
        """Send a heartbeat; a regular one also when nobody is there to hear it."""
        device_id = self._out.device.device_id
        self._heartbeat_at = schedule.next_heartbeat(device_id, self._now, self.update_interval)
        if not self._connection.online and not regular:
            return
        self._kept.drain()
        self._seq += 1
        self._outbound.heartbeat(
            heartbeat.build(
                self._out.device,
                self._settings,
                self.beliefs,
                self.state,
                self._verdict,
                readings=probes.read(self._paths.root, self.state.restarts),
                seq=self._seq,
                clock=self._clock,
                spool_depth=self._outbound.depth,
                hindered=bool(self._kept.refused or self.trouble),
            )
        )
