"""`once --mirror URL`: converge from a copy of what the hub publishes, with no hub and no broker.

The copy is plain files behind any web server, laid out as `docs/reference/export.md` says. It is trusted for nothing:
what it gives is handed to the agent as if the broker had brought it, and every check is the same. Reports wait in the
spool for the next connection.
"""

from __future__ import annotations

import os
import select
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Final

from edge import beliefs, config, resident, web
from edge.agent import Agent
from edge.config import Paths
from edge.errors import NotReady, Refused, Unreachable, Untrusted
from edge.identity.identity import Identity
from edge.identity.roots import MOST
from edge.logs import book
from edge.machine import clock
from edge.machine.clock import SystemClock
from edge.outside import Outside
from edge.selfupdate import launcher
from edge.selfupdate.standing import Standing
from edge.storage.spool import Spool
from edge.storage.state import Update
from edge.updating import child, jobs
from edge.updating.jobs import Child
from topics import codec, trust
from topics.channels import MANIFEST_LIMIT
from topics.documents import RootChain
from topics.eligibility import Decision

Read = Callable[[str, int], bytes | None]
"""Returns the file at a path of the mirror, at most a byte more than the limit; None when it has none."""
ENDED: Final = ("failed", "rolled_back")


class NoLink:
    """Stands where the connection to the broker would: nothing leaves, all of it waits in the spool."""

    def publish(self, topic: str, body: bytes, *, qos: int, retain: bool) -> int | None:
        """Send nothing."""

    def subscribe(self, topics: list[tuple[str, int]]) -> None:
        """Ask for nothing."""

    def unsubscribe(self, topics: list[str]) -> None:
        """Ask for nothing less."""


def run(paths: Paths, arguments: list[str]) -> str:
    """Take what the mirror of the settings has and act on it; return what runs and why. Raises `EdgeError`."""
    book.setup(paths, book.AGENT)
    identity = Identity(paths)
    settings = config.load_settings(paths.root)
    paths.make()
    lock = resident.hold(paths.root / "lock")
    updates = Child(lambda: jobs.command(paths))
    try:
        spool = Spool(paths.spool)
        agent = Agent(
            Outside(paths, settings, identity.device, SystemClock(), NoLink(), updates, spool, os.urandom)
        )
    except OSError as error:
        os.close(lock)
        raise NotReady(
            f"cannot write in {paths.root} ({error.strerror}); make room and start again"
        ) from None
    refusals: list[beliefs.Refusal] = []
    try:
        # There is no hub to be reached: a build of the agent on trial has to come up, no more.
        Standing(paths).reached()
        agent.start()
        _work(agent, updates, arguments)
        read = _reader(settings.mirror, child.tls(identity))
        for topic, body in _documents(agent, identity.device.device_id, read):
            now = clock.judge(agent.memory.trust, int(time.time() * 1000))
            judged = beliefs.take(agent.beliefs, identity.device.device_id, topic, body, now)
            # Refused or not, it goes to the agent, which reports what it refuses.
            agent.on_message(topic, body)
            if isinstance(judged, beliefs.Refusal):
                refusals.append(judged)
        _work(agent, updates, arguments)
        return _outcome(agent, refusals)
    finally:
        updates.kill()
        spool.close()
        os.close(lock)


def _documents(agent: Agent, device_id: str, read: Read) -> Iterator[tuple[str, bytes]]:
    """Yield topic and body of what concerns this device, as a broker would bring it. Raises `Refused`."""
    root_topic, _, desired_topic = beliefs.topics_of(agent.memory, device_id)
    for _ in range(MOST):
        before = agent.memory.trust.root.version
        root = read(f"trust/roots/{before + 1}", trust.ROOT_LIMIT)
        if root is None:
            break
        yield root_topic, codec.encode(RootChain([root]))
        if agent.memory.trust.root.version == before:
            break
    desired = read(f"devices/{device_id}/desired", MANIFEST_LIMIT)
    if desired is not None:
        yield desired_topic, desired
    # Asked only now: the desired state may have moved the device.
    role, segment = agent.memory.role, agent.memory.segment
    manifest = read(f"manifests/{role}/{segment}", MANIFEST_LIMIT)
    if manifest is None:
        raise Refused(f"the mirror has no manifest of {role}/{segment}; export again, or check its URL")
    yield beliefs.topics_of(agent.memory, device_id)[1], manifest


def _work(agent: Agent, updates: Child, arguments: list[str]) -> None:
    """Let updates run, and waits for them pass, until there is nothing to be done now."""
    while True:
        if updates.busy and updates.pipe is not None:
            select.select([updates.pipe], [], [])
            code = updates.readable()
            if code is None:
                agent.on_progress()
            else:
                agent.on_job_end(code)
            if agent.restart_wanted:
                # The build that came with the release goes on, at its own start.
                launcher.again(arguments)
        elif _is_waiting(agent):
            time.sleep(max(0.0, (agent.deadline or 0.0) - time.monotonic()))
            agent.tick()
        else:
            return


def _is_waiting(agent: Agent) -> bool:
    """Whether an update is to begin, or to go on, after a wait; one that has just failed is left for another time."""
    if agent.deadline is None:
        return False
    update, decision = agent.state.update, agent.decide_now()
    if update is not None and update.state not in (*ENDED, "committed", "refused"):
        return True
    return decision.eligible and not _has_failed(update, decision)


def _has_failed(update: Update | None, decision: Decision) -> bool:
    return update is not None and update.state in ENDED and update.release == decision.release


def _outcome(agent: Agent, refusals: list[beliefs.Refusal]) -> str:
    """Return what came of it in a sentence. Raises `Untrusted`, and `Refused` for an update that failed."""
    update, decision, running = agent.state.update, agent.decide_now(), agent.state.running_id
    if refusals:
        topic, check, detail = refusals[0].topic, refusals[0].check, refusals[0].detail
        raise Untrusted(f"{topic} of the mirror is refused by check {check}: {detail}; export again")
    if update is not None and _has_failed(update, decision):
        raise Refused(f"{update.release.id} {update.state.replace('_', ' ')}: {update.reason}")
    return f"{running or 'nothing'} runs: {decision.reason}"


def _reader(mirror: str, tls: ssl.SSLContext) -> Read:
    def read(path: str, limit: int) -> bytes | None:
        url = f"{mirror.rstrip('/')}/{path}"
        status, body = web.request("GET", url, tls=tls, limit=limit)
        if status == 200:
            return body
        if status in (403, 404, 410):
            return None
        raise Unreachable(f"{url} answered {status}; try again later")

    return read
