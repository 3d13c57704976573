"""`make chaos`: a game day. One thing after another is broken on a real hub, real agents and simulated devices.

For each it is seen that somebody notices, how fast, and that all is well again afterwards. Exits 0 only when all of
it was observed. `--only NAME` plays some of it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from rich.console import Console
from rich.table import Table

from tests.e2e.fleet import Agent, Fleet, NotObservedError, until
from tests.e2e.rehearsal import Rehearsal
from tests.support.disks import fill, small_disk
from tests.support.ports import held_port
from tests.support.relay import Relay

SETTINGS: Final[dict[str, Any]] = {
    "chaos": True,
    "hook_seconds": 5,
    "retry_base_seconds": 1,
    "retry_cap_seconds": 2,
    "backoff_cap_seconds": 2,
    "resend_seconds": 2,
}
"""What makes a device impatient enough for one day."""
CLOCK: Final = """
import os, time
_real = time.time_ns
def _shifted():
    with open(os.environ["GAMEDAY_CLOCK"]) as file:
        return _real() + int(file.read() or 0) * 1_000_000_000
time.time_ns = _shifted
time.time = lambda: _shifted() / 1_000_000_000
"""
"""A `sitecustomize` that lets the wall clock of one process jump by the seconds in a file."""
YEARS: Final = -56 * 365 * 86_400


class Seen(NamedTuple):
    """What was broken, who noticed it by what and after how many seconds, and how it ended."""

    broken: str
    noticed: str
    seconds: float | None
    ended: str


NAMES: Final = ("shop-1", "shop-2", "shop-3")


class GameDay:
    """A fleet of three real devices in canary, behind a network that can be cut."""

    def __init__(self, folder: Path) -> None:
        self.gate = threading.Event()
        self.gate.set()
        mqtt = held_port()
        self.relay = Relay(mqtt, loses=self._hold_up)
        options = ("--chaos", "--public-mqtt", f"127.0.0.1:{self.relay.port}", "--quarantine-failures", "0")
        self.fleet = Fleet(folder, mqtt_port=mqtt, options=options)
        self.sequence = 0

    def _hold_up(self, _data: bytes) -> bool:
        """Let nothing pass while the network is gone."""
        self.gate.wait()
        return False

    @contextlib.contextmanager
    def playing(self) -> Iterator[GameDay]:
        """Run hub and devices, all on a first good release, until the `with` ends."""
        with self.relay, self.fleet.ready():
            try:
                for name in NAMES:
                    self.fleet.start(self.fleet.enrol(name, "canary", **SETTINGS))
                self.good(*self.agents)
                yield self
            finally:
                self.gate.set()

    @property
    def agents(self) -> list[Agent]:
        """The real devices that every scenario finds; what one adds for itself is not among them."""
        return [self.fleet.agents[name] for name in NAMES]

    # What a scenario is made of

    def publish(self, **failure: Any) -> str:
        """Publish the next release; `failure` is the rule that halts it, by default none does."""
        policy = self.fleet.repo / "roles" / "kiosk" / "rollout.json"
        rules = json.loads(policy.read_text())
        rules["failure"] = {"max_ratio": 1.0, "max_count": 1000, **failure}
        self.sequence += 1
        policy.write_text(json.dumps(rules))
        (self.fleet.repo / "roles" / "kiosk" / "files" / "day.txt").write_text(str(self.sequence))
        self.fleet.commit(f"release {self.sequence}")
        return self.fleet.publish("kiosk", self.sequence)

    def offer(self, release: str) -> None:
        """Promote a release to the whole of canary."""
        self.fleet.flaghoist("release", "promote", release, "--segment", "canary")

    def good(self, *agents: Agent) -> str:
        """Bring devices to a new release, which shows that all is well."""
        release = self.publish()
        self.offer(release)
        for agent in agents:
            until(f"{agent.device_id} on {release}", lambda a=agent: a.current == release, seconds=120)  # type: ignore[misc]
            until(
                f"{agent.device_id}'s service",
                lambda a=agent: a.health().get("status") == "ok",  # type: ignore[misc]
                seconds=60,
            )
        return release

    def break_update(self, agent: Agent, phase: str, kind: str) -> None:
        """Have the next update of a device break, and wait until it knows."""
        body = {"deviceId": agent.device_id, "phase": phase, "kind": kind}
        command = self.fleet.post("/test/fail-update", body)["id"]
        path = f"/devices/{agent.device_id}/commands/{command}"
        until("the order", lambda: self.fleet.get(path).get("state") == "done", seconds=60)

    def timed(self, what: str, look: Callable[[], Any], *, seconds: float = 120) -> float:
        """Return how long it took until somebody noticed."""
        begin = time.monotonic()
        until(what, look, seconds=seconds, every=0.05)
        return time.monotonic() - begin

    def device(self, agent: Agent) -> dict[str, Any]:
        """What the hub shows of a device."""
        return dict(self.fleet.get(f"/devices/{agent.device_id}"))

    def attempt(self, agent: Agent, release: str) -> str:
        """Where a device stands with a release."""
        last = self.device(agent).get("attempt") or {}
        return str(last.get("state")) if last.get("release") == release else ""

    def state(self, release: str) -> str:
        """The state of a release."""
        return str(self.fleet.get(f"/releases/{release}").get("state"))

    # What is broken

    def bad_release(self) -> Seen:
        """A release that passes every check but does not run."""
        files = self.fleet.repo / "roles" / "kiosk" / "files"
        (files / "prices.json").rename(files / "price-list.json")
        bad = self.publish(max_ratio=0.2, max_count=None, min_reports=1)
        (files / "price-list.json").rename(files / "prices.json")
        self.offer(bad)
        took = self.timed("a halt", lambda: self.state(bad) == "halted")
        self.good(*self.agents)
        return Seen("bad release", "rollout halted by the hub", took, "the next release reaches all")

    def failing_fleet(self) -> Seen:
        """A release that fails on most of twenty simulated devices."""
        bad = self.publish(max_ratio=0.2, max_count=None, min_reports=5)
        with Rehearsal(self.fleet, 20, "--fail", "60%", "--seconds-per-step", "0.2") as rehearsal:
            self.offer(bad)
            took = self.timed("a halt", lambda: self.state(bad) == "halted")
            figures = rehearsal.finish()
        (rollout,) = [each for each in figures["rollouts"] if each["release"] == bad]
        after = rollout["halt"]["began_while_paused"]
        if after:
            raise NotObservedError(f"{after} devices began after they had heard of the halt")
        self.good(*self.agents)
        return Seen(
            "20 simulated devices fail", "rollout halted by the hub", took, "nobody began who had heard of it"
        )

    def hook_hangs(self) -> Seen:
        """Activation stands still."""
        agent = self.agents[0]
        self.break_update(agent, "activate", "hang")
        bad = self.publish()
        self.offer(bad)
        took = self.timed("a roll-back", lambda: self.attempt(agent, bad) == "rolled_back")
        self.good(agent)
        return Seen("activation hangs", "rolled back after its time limit", took, "takes the next release")

    def update_crashes(self) -> Seen:
        """The update process dies while it stages."""
        agent = self.agents[0]
        self.break_update(agent, "stage", "crash")
        release = self.publish()
        self.offer(release)
        log = self.fleet.folder / f"{agent.device_id}.log"
        took = self.timed("the agent's word", lambda: "the update process ended with 70" in log.read_text())
        until("the release all the same", lambda: agent.current == release, seconds=120)
        return Seen("update process dies in staging", "agent, in its log", took, "finishes the same update")

    def power_cut(self) -> Seen:
        """The device goes dark while it activates."""
        agent = self.agents[1]
        self.break_update(agent, "activate", "power")
        release = self.publish()
        self.offer(release)
        took = self.timed("the last will", lambda: self.device(agent)["presence"] == "offline")
        assert agent.process is not None
        agent.process.wait()
        self.fleet.start(agent)
        until("the release all the same", lambda: agent.current == release, seconds=120)
        until("its service", lambda: agent.health().get("status") == "ok", seconds=60)
        return Seen(
            "power fails in activation", "offline by its last will", took, "finishes the update after boot"
        )

    def safe_mode(self) -> Seen:
        """A device falls into safe mode in mid-rollout."""
        agent = self.fleet.enrol("shop-5", "canary", **SETTINGS, safe_mode_after=1)
        self.fleet.start(agent)
        self.good(agent)
        self.break_update(agent, "probation", "fail")
        bad = self.publish()
        self.offer(bad)
        path = f"/recovery/{agent.device_id}"
        took = self.timed("a quarantine", lambda: self.fleet.get(path).get("quarantine"))
        until("its diagnostics", lambda: self.fleet.get(path)["redeploy"]["allowed"], seconds=60)
        self.fleet.flaghoist("recovery", "redeploy", agent.device_id)
        until("the release all the same", lambda: agent.current == bad, seconds=120)
        until("its freedom", lambda: self.fleet.get(path)["quarantine"] is None, seconds=60)
        self.fleet.stop(agent)
        return Seen("device falls into safe mode", "held back, out of the counts", took, "back by a redeploy")

    def tampered_bundle(self) -> Seen:
        """Somebody changes the bundle on the hub's disk."""
        agent = self.agents[0]
        release = self.publish()
        day = self.fleet.repo / "roles" / "kiosk" / "files" / "day.txt"
        (bundle,) = (self.fleet.folder / "out" / release).glob("*.tar.gz")
        kept = self.fleet.data / "artifacts"
        stored = {path: path.read_bytes() for path in (_stored(kept, bundle), _stored(kept / "blobs", day))}
        for path, whole in stored.items():
            path.chmod(0o600)
            path.write_bytes(b"x" * len(whole))
        self.offer(release)
        bundle_path = f"/artifacts/kiosk/{release}/bundle"
        took = self.timed("a refusal", lambda: self.fleet.refusal(bundle_path) == "artifact_damaged")
        until("a device that wants it", lambda: self.attempt(agent, release) == "downloading", seconds=60)
        if any((each.state / "releases" / release).exists() for each in self.agents):
            raise NotObservedError("a device unpacked the tampered bundle")
        for path, whole in stored.items():
            path.write_bytes(whole)
        until("the release once it is whole", lambda: agent.current == release, seconds=120)
        return Seen(
            "bundle tampered with",
            "the hub gives none of it away",
            took,
            "taken once it is whole again",
        )

    def full_disk(self) -> Seen:
        """A device has no room left."""
        place = self.fleet.folder / "devices" / "shop-4"
        with small_disk(place, "64m"):
            agent = self.fleet.enrol("shop-4", "canary", **SETTINGS)
            self.fleet.start(agent)
            self.good(agent)
            ballast = place / "ballast"
            fill(ballast)
            release = self.publish()
            self.offer(release)
            took = self.timed("bad health", lambda: self.device(agent)["health"] != "ok")
            ballast.unlink()
            until("the release once there is room", lambda: agent.current == release, seconds=180)
            self.fleet.stop(agent)
            _end_services(self.fleet, agent)
        return Seen("device's disk is full", "health in its heartbeat", took, "updates once there is room")

    def clock_jump(self) -> Seen:
        """A device starts in 1970."""
        agent = self.agents[2]
        shift = self.fleet.folder / "clock"
        (self.fleet.folder / "python").mkdir()
        (self.fleet.folder / "python" / "sitecustomize.py").write_text(CLOCK)
        shift.write_text(str(YEARS))
        self.fleet.stop(agent)
        path = os.pathsep.join([str(self.fleet.folder / "python"), os.environ.get("PYTHONPATH", "")])
        self.fleet.start(agent, PYTHONPATH=path, GAMEDAY_CLOCK=str(shift))
        self.fleet.flaghoist("recovery", "collect", agent.device_id)
        took = self.timed("its own word", lambda: "clock" in self._failing(agent))
        self.good(agent)
        shift.write_text("0")
        self.good(agent)
        return Seen(
            "clock stands in 1970", "its diagnostics", took, "takes releases, then and after the jump"
        )

    def _failing(self, agent: Agent) -> list[str]:
        told = self.fleet.get(f"/recovery/{agent.device_id}").get("diagnostics") or {"checks": []}
        return [check["name"] for check in told["checks"] if check["verdict"] == "fail"]

    def network_gone(self) -> Seen:
        """Nothing passes between devices and broker, and nobody is told."""
        self.gate.clear()
        try:
            took = self.timed(
                "three silent devices",
                lambda: all(self.device(agent)["presence"] == "offline" for agent in self.agents),
            )
            release = self.publish()
            self.offer(release)
        finally:
            self.gate.set()
        for agent in self.agents:
            until("the release after all", lambda a=agent: a.current == release, seconds=120)  # type: ignore[misc]
        return Seen("network gone", "three heartbeats missed", took, "what was offered meanwhile is taken")

    def broker_killed(self) -> Seen:
        """The broker dies."""
        before = self.fleet.broker_pid()
        os.kill(before, signal.SIGKILL)
        took = self.timed("another broker", self._other_broker(before))
        self.good(*self.agents)
        return Seen("broker killed", "hub, which starts another", took, "the next release reaches all")

    def _other_broker(self, before: int) -> Callable[[], bool]:
        def look() -> bool:
            try:
                other = self.fleet.broker_pid()
            except NotObservedError:
                return False
            return other != before and bool(self.fleet.get("/health/ready").get("ready"))

        return look

    def hub_killed(self) -> Seen:
        """The hub dies in mid-rollout, its broker with it."""
        release = self.publish()
        self.offer(release)
        self.fleet.kill_hub()
        begin = time.monotonic()
        self.fleet.start_hub()
        until("a ready hub", lambda: self.fleet.get("/health/ready").get("ready"), seconds=60)
        took = time.monotonic() - begin
        for agent in self.agents:
            until("its result", lambda a=agent: self.attempt(a, release) == "committed", seconds=120)  # type: ignore[misc]
        return Seen("hub killed in mid-rollout", "started again; devices go on", took, "no result is missing")


SCENARIOS: Final[dict[str, Callable[[GameDay], Seen]]] = {
    "bad-release": GameDay.bad_release,
    "failing-fleet": GameDay.failing_fleet,
    "hook-hangs": GameDay.hook_hangs,
    "update-crashes": GameDay.update_crashes,
    "power-cut": GameDay.power_cut,
    "safe-mode": GameDay.safe_mode,
    "tampered-bundle": GameDay.tampered_bundle,
    "full-disk": GameDay.full_disk,
    "clock-jump": GameDay.clock_jump,
    "network-gone": GameDay.network_gone,
    "broker-killed": GameDay.broker_killed,
    "hub-killed": GameDay.hub_killed,
}


def play(folder: Path, names: list[str], tell: Callable[[str], None]) -> list[Seen]:
    """Play scenarios by name below `folder`; raises `NotObservedError` at the first thing that was not observed."""
    found = []
    with GameDay(folder).playing() as day:
        for name in names:
            tell(f"{name} …")
            try:
                found.append(SCENARIOS[name](day))
            except pytest.skip.Exception as skipped:
                found.append(Seen(name, f"not played: {skipped}", None, "-"))
    return found


def _stored(folder: Path, content: Path) -> Path:
    """Return where the hub keeps the content of a file."""
    sha256 = hashlib.sha256(content.read_bytes()).hexdigest()
    return folder / sha256[:2] / sha256


def _end_services(fleet: Fleet, agent: Agent) -> None:
    for process in fleet.processes():
        if any(str(agent.state) in word for word in [process.cwd(), *process.cmdline()]):
            process.terminate()


def table(found: list[Seen]) -> Table:
    """Return what was seen as a table."""
    made = Table(box=None, pad_edge=False)
    for heading in ("broken", "noticed", "after", "ended"):
        made.add_column(heading)
    for seen in found:
        after = "-" if seen.seconds is None else f"{seen.seconds:.1f} s"
        made.add_row(seen.broken, seen.noticed, after, seen.ended)
    return made


def main() -> int:
    """The command line of the game day."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=list(SCENARIOS), help="play this; may be given several times"
    )
    names = parser.parse_args().only or list(SCENARIOS)
    console = Console(highlight=False, soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix="flaghoist-gameday-"))
    begin = time.monotonic()
    try:
        found = play(
            folder,
            names,
            lambda text: console.print(f"[{time.monotonic() - begin:5.0f} s] {text}", markup=False),
        )
    except NotObservedError as failure:
        console.print(f"[red]not observed:[/red] {failure}; logs are in {folder}")
        return 1
    except KeyboardInterrupt:
        return 130
    console.print(table(found))
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
