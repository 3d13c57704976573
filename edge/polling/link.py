"""The connection over HTTPS: what the broker would bring is polled, what it would take is posted.

To the agent it is a connection like any other. It stands when the hub has answered for this device, and is lost with
the first request that fails; what is not kept then is told anew with the next one, and the spool keeps the rest.

- **When.** With every heartbeat, which each device sends at a place of its own in `update_interval`. The hub's answer
  has a word for all that there is to hear; unless that is what this device knows, all that it subscribed to is asked
  for anew. Between heartbeats nothing runs and nothing is open.
- **What comes.** A document that stayed the same (304) is handed on once per connection, as a broker hands on what it
  retains. Roots are walked one by one, each judged by the agent before the next is asked for, and before anything
  that they sign.
- **What goes.** One after the other in the order of the spool; the answer to a post is acknowledgement and receipt.
"""

from __future__ import annotations

import hashlib
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge import beliefs
from edge.link import Connected, Disconnected, Event, Published, Received
from edge.machine import clock
from edge.polling import answers
from edge.polling.frames import Answer, Ask
from edge.polling.process import Exchange
from edge.storage.memory import Memory
from topics import channels, codec, trust
from topics.channels import DESIRED, MANIFEST_LIMIT, RECEIPT, TRUST_ROOT, UPLINK_LIMIT
from topics.documents import RootChain
from topics.heard import fingerprint

POSTS: Final = {
    "status": "status",
    "presence": "presence",
    "update-result": "update-results",
    "drift": "drift",
    "recovery": "recovery",
    "command-result": "command-results",
    "log": "logs",
}
"""Below `/telemetry/`, by channel."""
LINGER: Final = 1.0
"""Seconds for which the exchange process is kept with nothing to ask, since what it brought often leads to more; and
for which what was asked for is news enough."""
REFUSED: Final = 0x80
"""Stands for "this message is not taken", as MQTT's reason codes from here on do."""


@dataclass(frozen=True, slots=True)
class Job:
    """A document to ask for (`mid` is 0), or a message to post, by its topic; with `polls` a heartbeat whose answer
    leads to more questions if there is news."""

    topic: str
    mid: int = 0
    body: bytes = b""
    polls: bool = False


class HttpsLink:
    """One connection at a time; `Link` of `edge.outside`, plus what the runner needs. `memory` gives the agent's."""

    def __init__(self, exchange: Exchange, fleet: str, device_id: str, memory: Callable[[], Memory]) -> None:
        self._exchange = exchange
        self._device_id = device_id
        self._memory = memory
        self._root_topic = TRUST_ROOT.topic(fleet)
        self._desired_topic = DESIRED.topic(fleet, id=device_id)
        self._receipt_topic = RECEIPT.topic(fleet, id=device_id)
        self._events: list[Event] = []
        self._jobs: deque[Job] = deque()
        self._job: Job | None = None
        self._topics: list[str] = []
        self._asked: set[str] = set()
        self._told: set[str] = set()
        self._last: dict[str, bytes] = {}
        self._walked = 0
        self._walking = False
        self._mids = 0
        self._open = self._connected = False
        self._idle_at = self._polled_at = 0.0

    def open(self) -> None:
        """Begin a connection; events tell the outcome."""
        self.close()
        self._open = True
        self._topics, self._asked, self._told = [], set(), set()
        self._want(self._root_topic)
        self._want(self._desired_topic)
        self._pump()

    def events(self) -> list[Event]:
        """Return what has happened since the last call."""
        events, self._events = self._events, []
        return events

    def socket(self) -> socket.socket | None:
        """The socket to watch, or None."""
        return self._exchange.channel

    @property
    def wants_write(self) -> bool:
        """Whether something waits until the socket takes more."""
        return self._exchange.wants_write

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way or waits to be."""
        return self._job is None and not self._jobs and not self._walking and not self._events

    @property
    def deadline(self) -> float | None:
        """When `misc` is wanted, on the monotonic clock."""
        if self._job is not None:
            return None
        if self._jobs or self._walking:
            return 0.0
        return self._idle_at if self._exchange.channel is not None else None

    def has_more(self) -> bool:
        """Whether there is something to read that the selector will not tell of."""
        return False

    def misc(self) -> None:
        """Ask on, once what came was judged; let the exchange process go when it is idle."""
        if self._walking and not self._events:
            self._walking = False
            if self._memory().trust.root.version >= self._walked:
                self._jobs.appendleft(Job(self._root_topic))
        self._pump()
        if self.is_idle and time.monotonic() >= self._idle_at:
            self._exchange.let_go()

    def publish(self, topic: str, body: bytes, *, qos: int, retain: bool) -> int | None:
        """Post; see `edge.outside.Link`. What waits already is not posted twice."""
        if not self._connected:
            return None
        for job in self._jobs:
            if (job.topic, job.body) == (topic, body):
                return job.mid
        polls = topic.endswith("/up/status") and self._poll_is_due
        self._mids += 1
        self._jobs.append(Job(topic, self._mids, body, polls))
        self._pump()
        return self._mids

    def subscribe(self, topics: list[tuple[str, int]]) -> None:
        """Ask for topics, now and whenever there is news."""
        self._topics = [topic for topic, _ in topics if topic != self._receipt_topic]
        for topic in self._topics:
            if topic not in self._asked:
                self._want(topic)
        self._pump()

    def unsubscribe(self, topics: list[str]) -> None:
        """Ask for topics no more."""
        self._topics = [topic for topic in self._topics if topic not in topics]
        self._jobs = deque(job for job in self._jobs if job.mid or job.topic not in topics)
        for topic in topics:
            self._last.pop(topic, None)
            self._asked.discard(topic)
            self._told.discard(topic)

    def drop(self, reason: str) -> None:
        """End the connection."""
        if self._open:
            self.close()
            self._events.append(Disconnected(reason))

    def close(self) -> None:
        """End the connection without a word; what was to be told goes with the next one."""
        self._open = self._connected = self._walking = False
        self._jobs.clear()
        self._job = None
        self._exchange.let_go()

    def writable(self) -> None:
        """Send what waits."""
        self._exchange.writable()

    def readable(self) -> None:
        """Read what is there."""
        answer = self._exchange.read()
        if answer is not None and self._job is not None:
            job, self._job = self._job, None
            self._idle_at = time.monotonic() + LINGER
            self._answered(job, answer)

    # Asking

    @property
    def _poll_is_due(self) -> bool:
        """Whether everything is to be asked for anew: not when that has just been done, or is being done."""
        is_under_way = self._job is not None or self._jobs or self._walking
        return not is_under_way and time.monotonic() >= self._polled_at + LINGER

    def _poll(self, there: str) -> None:
        """Ask for everything anew, unless what is `there` is what is known; a hub that does not say is asked."""
        memory = self._memory()
        _, manifest_topic, desired_topic = beliefs.topics_of(memory, self._device_id)
        known = self._known(manifest_topic), self._known(desired_topic)
        self._polled_at = time.monotonic()
        if there != fingerprint(memory.trust.root.version, *known):
            for topic in self._topics:
                self._want(topic)

    def _want(self, topic: str) -> None:
        self._asked.add(topic)
        self._jobs.append(Job(topic))

    def _pump(self) -> None:
        """Send the next question, if the last one is answered and what it brought was judged."""
        if self._job is not None or not self._jobs or self._walking or self._events:
            return
        self._job = self._jobs.popleft()
        try:
            self._exchange.ask(self._ask(self._job))
        except OSError as error:
            self.drop(f"no process can be started to ask the hub: {error.strerror}")

    def _ask(self, job: Job) -> Ask:
        memory, address = self._memory(), channels.parse(job.topic)
        clock_ok = clock.judge(memory.trust, int(time.time() * 1000)).ok
        if job.mid:
            return Ask(f"/telemetry/{POSTS[address.channel]}", UPLINK_LIMIT, job.body, clock_ok=clock_ok)
        if job.topic == self._root_topic:
            self._walked = memory.trust.root.version + 1
            return Ask(f"/trust/roots/{self._walked}", trust.ROOT_LIMIT, clock_ok=clock_ok)
        path = f"/manifests/{address.role}/{address.segment}"
        if job.topic == self._desired_topic:
            path = f"/devices/{self._device_id}/desired"
        known = self._known(job.topic)
        etag = f'"{hashlib.sha256(known).hexdigest()}"' if known else ""
        return Ask(path, MANIFEST_LIMIT, etag=etag, clock_ok=clock_ok)

    def _known(self, topic: str) -> bytes:
        """Return what the hub said last on a topic, or what the agent holds true from an earlier start."""
        memory = self._memory()
        _, manifest_topic, desired_topic = beliefs.topics_of(memory, self._device_id)
        held = {manifest_topic: memory.manifest, desired_topic: memory.desired}
        return self._last.get(topic) or held.get(topic, b"")

    # Being answered

    def _answered(self, job: Job, answer: Answer) -> None:
        reason = answers.broken(answer, posted=bool(job.mid))
        if reason:
            self.drop(reason)
        elif job.mid:
            self._posted(job.mid, answer)
            if job.polls:
                self._poll(answer.documents)
        else:
            self._polled_at = time.monotonic()
            if job.topic == self._root_topic:
                self._take_root(answer)
            else:
                self._take(job.topic, answer)

    def _take_root(self, answer: Answer) -> None:
        # One that was refused comes again with every poll, and is no news.
        if answer.status == 200 and answer.body != self._last.get(self._root_topic):
            self._last[self._root_topic] = answer.body
            self._events.append(Received(self._root_topic, codec.encode(RootChain([answer.body]))))
            self._walking = True

    def _take(self, topic: str, answer: Answer) -> None:
        if not self._connected:
            self._connected = True
            self._events.append(Connected())
        elif topic not in self._topics:
            return  # was let go of while it was on its way
        if answer.status == 200:
            self._last[topic] = answer.body
        elif answer.status != 304 or topic in self._told:
            return
        self._told.add(topic)
        self._events.append(Received(topic, self._known(topic)))

    def _posted(self, mid: int, answer: Answer) -> None:
        receipt = answers.receipt(answer)
        is_refused = answer.status >= 400 and receipt is None
        self._events.append(Published(mid, REFUSED if is_refused else 0))
        if receipt is not None:
            self._events.append(Received(self._receipt_topic, codec.encode(receipt)))
