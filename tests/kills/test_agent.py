"""SIGKILL at every system call by which the agent itself changes the disk or speaks to its broker, over real TLS."""

from __future__ import annotations

import fcntl
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from msgspec import structs

from edge.identity import identity
from edge.storage.spool import Spool
from tests.edge.world import DESIRED_TOPIC, DEVICE, Source, wait_until
from tests.kills.device import ENVIRONMENT, TASKS, Copy, Master
from tests.kills.hub import Ear
from tests.kills.record import Record
from tests.kills.strace import Nursery, Place, Until, traced
from tests.kills.ward import EVERYTHING, HEAVY_STEP
from tests.support.mosquitto import Broker

SAMPLE = 2


class Station:
    """A device, its broker and the hub's voices. The device hears of an update when it connects.

    `verb` is how its agent works: `once`, or `run`, which is told to stop when it has nothing left to do.
    """

    def __init__(
        self, folder: Path, broker: Broker, source: Source, harm: Callable[[Copy], None], verb: str
    ) -> None:
        self.folder, self.harm, self.verb = folder, harm, verb
        self.master = Master(folder / "master", source, TASKS[0], begun=False)
        self.identify(broker)
        self.ear = Ear(broker)
        self.ear.hoist(DESIRED_TOPIC, self.master.desired)
        self.ear.hoist(self.master.task.topic, self.master.order)
        self.record = Record(folder)
        self.nursery = Nursery(folder, ENVIRONMENT)
        copy = self.copy()
        self.places = self.nursery.trace(copy.command(verb), self.until(copy))

    def identify(self, broker: Broker) -> None:
        files = broker.device_files(DEVICE, self.master.key)
        identity.write(
            self.master.paths,
            structs.replace(self.master.device, mqtt_port=broker.device_port),
            seed=bytes(self.master.key),
            certificate_pem=files.certificate.read_text(),
            ca_pem=files.ca.read_text(),
            unique=identity.unique(),
        )

    def copy(self) -> Copy:
        self.ear.forget()
        copy = self.master.copy(self.folder / "copy")
        self.harm(copy)
        return copy

    def until(self, copy: Copy) -> Until | None:
        """What a command that does not end by itself is ended by: it has connected, and there is nothing to do."""
        before = self.connections()
        return (
            None
            if self.verb == "once"
            else lambda: self.connections() > before and self.has_nothing_to_do(copy)
        )

    def connections(self) -> int:
        """Presences heard: an agent says so when it connects, and when it leaves in good order."""
        return sum(each.topic.endswith("/up/presence") for each in self.ear.heard())

    @staticmethod
    def has_nothing_to_do(copy: Copy) -> bool:
        told = copy.state.running_id == copy.task.new.id and not Spool.peek(copy.paths.spool)
        # The update process tidies up after that.
        return told and not working_in(copy.paths.root)

    def killed(self, place: Place) -> bool:
        """Kill the agent at a place and start it again until it has nothing to do; whether it got there."""
        with closing(self.copy()) as copy:
            ending = self.nursery.kill_at(place, copy.command(self.verb), self.until(copy))
            # In how many pieces the network brings what comes, and so what follows it, is not always the same.
            assert ending.killed or ending.code == 0, ending
            wait_until(lambda: is_left_alone(copy.paths.root), what="the end of the update process")
            copy.whole()
            for _ in range(10):
                again = self.nursery.run(copy.command(self.verb), until=self.until(copy))
                assert again.code == 0 and "Traceback" not in again.said, again
                if self.has_nothing_to_do(copy):
                    break
            copy.is_right()
            self.record.told_once(copy, self.ear.heard())
            copy.start()
            copy.online()
            copy.takes_the_next()
            return ending.killed

    def everywhere(self, chosen: list[Place]) -> None:
        """Kill at each of the places; names the place when something is wrong."""
        hit = 0
        for place in chosen:
            try:
                hit += self.killed(place)
            except Exception as error:
                error.add_note(f"killed at {place}")
                raise
        print(f"the agent: killed at {hit} of {len(self.places)} places")
        assert hit * 2 >= len(chosen)

    def close(self) -> None:
        self.nursery.close()
        self.record.close()
        self.ear.close()
        self.master.close()


def working_in(folder: Path) -> list[int]:
    """Processes that were told to work in a state directory."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if str(folder) in (process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


def is_left_alone(folder: Path) -> bool:
    """Whether nobody works in a state directory: no process of its own, and no copy of one, which holds its lock."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return not working_in(folder)


def lose_memory(copy: Copy) -> None:
    """As a power cut may leave both generations of a file that is written often."""
    for path in (copy.paths.memory, copy.paths.memory.with_name("memory.before")):
        path.write_bytes(bytes(path.stat().st_size))


@pytest.fixture
def station(tmp_path: Path, source: Source, request: pytest.FixtureRequest) -> Iterator[Station]:
    with Broker(tmp_path / "hub") as broker:
        made = Station(tmp_path, broker, source, *request.param)
        yield made
        made.close()


def nothing(_copy: Copy) -> None:
    """All is well."""


HARMS = pytest.mark.parametrize(
    "station",
    [
        pytest.param((nothing, "once"), id="an update"),
        pytest.param((lose_memory, "once"), id="its memory lost"),
        pytest.param((nothing, "run"), id="an agent that stays"),
    ],
    indirect=True,
)


@traced
@pytest.mark.parametrize("station", [pytest.param((nothing, "once"), id="an update")], indirect=True)
def test_an_agent_killed_at_some_system_calls_goes_on_and_the_hub_hears_it_once(station: Station) -> None:
    station.everywhere(random.Random(5).sample(station.places, SAMPLE))


@pytest.mark.heavy
@pytest.mark.timeout(1200)
@traced
@HARMS
def test_an_agent_killed_at_any_system_call_goes_on_and_the_hub_hears_it_once(station: Station) -> None:
    # An agent that stays has to be started and stopped three times for each of them.
    step = HEAVY_STEP if station.verb == "once" else 4 * HEAVY_STEP
    station.everywhere(station.places[:: 1 if EVERYTHING else step])
