"""`make demo`: a hub and five devices on this machine. A good release reaches all; a bad one stops itself.

Exits 0 only when every step was observed on the devices themselves, and leaves no process behind.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from tests.e2e.fleet import MARKER, Fleet, NotObservedError, until

DEVICES = (
    ("shop-1", "canary"),
    ("shop-2", "early"),
    ("shop-3", "early"),
    ("shop-4", "general"),
    ("shop-5", "general"),
)


class Demo:
    """Narrates what it does and what it saw."""

    def __init__(self, fleet: Fleet, console: Console) -> None:
        self.fleet = fleet
        self.console = console
        self.begin = time.monotonic()
        self.step_number = 0

    def step(self, text: str) -> None:
        """Say what happens next."""
        self.step_number += 1
        self.console.print(f"\n[bold]{self.step_number}. {text}[/bold]")

    def saw(self, text: str) -> None:
        """Say what was verified."""
        self.console.print(f"   [green]✓[/green] {text} [dim]({time.monotonic() - self.begin:.0f} s)[/dim]")

    def run(self) -> None:
        """The whole story; raises `NotObservedError` at the first thing that was not observed."""
        self.hub_and_keys()
        self.devices()
        good = self.good_release()
        bad = self.bad_release(good)
        self.table(good, bad)

    def hub_and_keys(self) -> None:
        """Hub, keys, root of trust and a git repository."""
        fleet = self.fleet
        self.step("A hub starts, with Mosquitto as its child, on free ports")
        fleet.start_hub()
        self.saw(f"the API answers at {fleet.url}")
        self.step("Root and release keys are made away from the hub, which only ever sees public halves")
        fleet.make_trust()
        until("a ready hub", lambda: fleet.get("/health/ready").get("ready"))
        hub_files = [path.name for path in fleet.data.rglob("*.key")]
        if any(name in hub_files for name in ("root.key", "release.key")):
            raise NotObservedError("the hub holds a key that could sign code")
        self.saw("the hub is ready, and none of its files is a root or release key")
        self.step("A fleet repository is made from docs/examples/fleet-repo and committed to git")
        fleet.make_repo()
        self.saw(f"commit {fleet.git('rev-parse', '--short', 'HEAD')}")

    def devices(self) -> None:
        """Five agents, each enrolled in a directory of its own."""
        fleet = self.fleet
        self.step("Five devices enrol, each with its own key and state directory, and their agents start")
        for device_id, segment in DEVICES:
            fleet.start(fleet.enrol(device_id, segment))
        until("five devices online", lambda: self.online() == len(DEVICES))
        self.saw("the registry shows all five online over MQTT with client certificates")

    def online(self) -> int:
        """How many devices the registry shows as online."""
        items = self.fleet.get("/devices").get("items", [])
        return sum(device["presence"] == "online" for device in items)

    def good_release(self) -> str:
        """Release one goes canary → early → general."""
        fleet = self.fleet
        self.step("Release one is built from the commit, signed with the release key, and published")
        good = fleet.publish("kiosk", 1)
        self.saw(f"{good} is published; no device has taken it, since no segment was offered it")
        for segment in ("canary", "early", "general"):
            self.step(f"Release one is promoted to {segment}: one retained, signed message")
            fleet.flaghoist("release", "promote", good, "--segment", segment)
            for agent in self.in_segment(segment):
                until(f"{agent.device_id} on {good}", lambda a=agent: a.current == good)  # type: ignore[misc]
                until(
                    f"{agent.device_id}'s service answering with {good}",
                    lambda a=agent: a.health().get("release") == good and a.health().get("status") == "ok",  # type: ignore[misc]
                )
            count = len(self.in_segment(segment))
            until(
                f"{count} committed in {segment}",
                lambda s=segment, n=count: fleet.progress(good, s).get("committed") == n,  # type: ignore[misc]
            )
            self.saw(
                f"{count} of {count} in {segment}: `current` points at it and the service answers with it"
            )
        until("a complete rollout", lambda: fleet.get(f"/releases/{good}").get("state") == "complete")
        self.saw("the hub judged the rollout complete; release one is the stable release of the role")
        return good

    def in_segment(self, segment: str) -> list:  # type: ignore[type-arg]
        """The devices of a segment."""
        return [agent for agent in self.fleet.agents.values() if agent.segment == segment]

    def bad_release(self, good: str) -> str:
        """Release two fails on the canary and goes no further."""
        fleet = self.fleet
        self.step("Somebody renames the price list and forgets the settings; release two is built and signed")
        kiosk = fleet.repo / "roles" / "kiosk" / "files"
        (kiosk / "prices.json").rename(kiosk / "price-list.json")
        fleet.commit("rename the price list")
        bad = fleet.publish("kiosk", 2)
        self.saw(f"{bad} passes every static check: it is signed, whole and well-formed")
        self.step("Release two is promoted to canary")
        fleet.flaghoist("release", "promote", bad, "--segment", "canary")
        (canary,) = self.in_segment("canary")
        until(
            "a roll-back on the canary",
            lambda: fleet.progress(bad, "canary").get("rolled_back") == 1,
            seconds=60,
        )
        self.saw("the canary installed it, its health check failed in probation, and it rolled itself back")
        until("a halt", lambda: fleet.get(f"/releases/{bad}").get("state") == "halted", seconds=60)
        self.saw(f"the hub halted the rollout by itself: {fleet.get(f'/releases/{bad}')['reason']}")
        until("the canary back on release one", lambda: canary.current == good)
        until("the canary's service on release one", lambda: canary.health().get("release") == good)
        self.saw("the canary runs release one again, and its service answers with it")
        for agent in fleet.agents.values():
            if agent.segment != "canary" and (agent.holds(bad) or agent.health().get("release") != good):
                raise NotObservedError(f"{agent.device_id} was touched by {bad}")
        refusal = fleet.flaghoist("release", "promote", bad, "--segment", "early", expect=1)
        self.saw("no file of release two ever reached the other four, which still answer with release one")
        self.saw(f"promoting it further is refused: {refusal.strip().removeprefix('flaghoist: ')}")
        return bad

    def table(self, good: str, bad: str) -> None:
        """The last lines: device, running release, state."""
        devices = {device["device_id"]: device for device in self.fleet.get("/devices")["items"]}
        table = Table(title=None)
        for heading in ("device", "segment", "running release", "state", "last tried", "service says"):
            table.add_column(heading, no_wrap=True)
        for agent in self.fleet.agents.values():
            shown = devices[agent.device_id]
            if agent.current != good or shown["running"] != good:
                raise NotObservedError(f"{agent.device_id} does not run {good}")
            attempt = shown["attempt"] or {}
            expected = (bad, "rolled_back") if agent.segment == "canary" else (good, "committed")
            if (attempt.get("release"), attempt.get("state")) != expected:
                raise NotObservedError(f"{agent.device_id} says of its last update: {attempt}")
            health = agent.health()
            says = f"{health['version']} {health['status']}"
            table.add_row(agent.device_id, agent.segment, agent.current, expected[1], expected[0], says)
        self.console.print()
        self.console.print(table)


def main() -> int:
    """The command line of the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave hub and agents running at the end")
    parser.add_argument("--stop", metavar="FOLDER", type=Path, help="end what an earlier --keep left running")
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, 110)
    if arguments.stop:
        return stop(arguments.stop, console)
    return tell(console, keep=arguments.keep)


def stop(folder: Path, console: Console) -> int:
    """End everything that an earlier run left running below `folder`, and remove it."""
    fleet = Fleet(folder)
    if not (fleet.folder / MARKER).is_file():
        console.print(f"{folder} is not the folder of a demonstration, so nothing there is touched.")
        return 1
    processes = list(fleet.processes())
    for process in processes:
        process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=20)
    for process in alive:
        process.kill()
    shutil.rmtree(fleet.folder)
    console.print(f"{len(processes)} processes ended and {folder} removed.")
    return 0


def tell(console: Console, *, keep: bool) -> int:
    """Run the demonstration; 0 when all of it was observed."""
    folder = Path(tempfile.mkdtemp(prefix="flaghoist-demo-"))
    demo = Demo(Fleet(folder), console)
    code = 0
    try:
        demo.run()
    except NotObservedError as failure:
        console.print(f"\n[red]not observed:[/red] {failure}\nlogs are in {folder}", markup=True)
        code = 1
    except KeyboardInterrupt:
        code = 130
    if keep and code == 0:
        console.print(
            f"\nLeft running below {folder}: API {demo.fleet.url}, token {demo.fleet.data / 'admin.token'}"
        )
        for agent in demo.fleet.agents.values():
            console.print(f"  {agent.device_id}: http://127.0.0.1:{agent.port}/")
        console.print(f"Stop everything with: make demo STOP={folder}")
        return 0
    killed = demo.fleet.close()
    left = [process.name() for process in demo.fleet.processes()]
    if killed or left:
        console.print(f"[red]these processes did not end by themselves: {killed + left}[/red]")
        code = code or 1
    if code == 0:
        shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())
