"""SIGKILL at, and failures of, the system calls of a technician's commands: enrolment, rollback, out of safe mode.

Whoever gave the command gives it again. The device is whole all the while.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.config import Paths
from edge.identity.identity import Identity
from edge.storage import memory, records, state
from tests.edge.test_enrol import Hub
from tests.edge.world import DEVICE, Source
from tests.kills.device import ENVIRONMENT, OLD, OLDER, TASKS, Copy, Master
from tests.kills.record import Record, sent
from tests.kills.strace import Nursery, Place, traced
from tests.kills.test_failing_calls import errors
from tests.kills.ward import EVERYTHING, HEAVY_STEP
from topics import codec
from topics.enrolment import RegisterRequest

(BACK,) = (task for task in TASKS if task.new is OLDER)


def ways(places: list[Place]) -> Iterator[tuple[Place, str]]:
    """Places, each with how it goes wrong: "" is a kill, else an error. In the heavy suite some of them, in turn."""
    for number, place in enumerate(places):
        known = ("", *errors(place.call))
        if EVERYTHING:
            yield from ((place, error) for error in known)
        elif number % HEAVY_STEP == 0:
            yield place, known[number // HEAVY_STEP % len(known)]


def goes_wrong(nursery: Nursery, place: Place, error: str, words: list[str]) -> None:
    """Give a command that is killed, or for which a call fails: then it says so in a sentence, or goes on without."""
    if error:
        ending = nursery.fail_at(place, error, words)
        assert ending.code in (0, 1, 3, 4) and "Traceback" not in ending.said, ending
        return
    ending = nursery.kill_at(place, words)
    # In how many pieces an answer comes is the network's affair.
    assert ending.killed or (place.call == "recvfrom" and ending.code == 0), ending


@dataclass(frozen=True)
class Verb:
    """A command on a device with two releases. `begin` brings the device before it."""

    name: str
    begin: Callable[[Copy], None]
    running: str
    reports: dict[tuple[str, str], int]


def in_safe_mode(copy: Copy) -> None:
    """As after activations that failed."""
    held = records.changed(copy.state, safe_mode="own-1-1", safe_mode_applied=True)
    state.save(copy.paths, held)


VERBS = [
    pytest.param(
        Verb("rollback", lambda _copy: None, OLDER.id, {("update-result", "committed"): 1}), id="rollback"
    ),
    pytest.param(
        Verb("leave-safe-mode", in_safe_mode, OLD.id, {("recovery", "left"): 1}), id="out of safe mode"
    ),
]


class Bench:
    """A device with two releases and no agent running, and copies of it."""

    def __init__(self, folder: Path, source: Source, verb: Verb) -> None:
        self.folder, self.verb = folder, verb
        self.record = Record(folder)
        self.nursery = Nursery(folder, ENVIRONMENT)
        self.master = Master(folder / "master", source, BACK, begun=False)
        self.places = self.nursery.trace(self.copy().command(verb.name))

    def copy(self) -> Copy:
        made = self.master.copy(self.folder / "copy")
        self.verb.begin(made)
        return made

    def broken_off(self, place: Place, error: str) -> None:
        """Let the command go wrong, the agent finish or undo it, and give it again if it was undone, or never begun."""
        with closing(self.copy()) as copy:
            goes_wrong(self.nursery, place, error, copy.command(self.verb.name))
            copy.whole()
            self.rests(copy)
            if not self.is_done(copy):
                again = self.nursery.run(copy.command(self.verb.name))
                assert again.code == 0, again
                self.rests(copy)
            self.settled(copy)

    def rests(self, copy: Copy) -> None:
        copy.start()
        copy.online()
        copy.pass_time(lambda: not copy.jobs.busy and not copy.state.outbox)

    def is_done(self, copy: Copy) -> bool:
        return (copy.state.running_id, copy.state.safe_mode) == (self.verb.running, "")

    def settled(self, copy: Copy) -> None:
        assert self.is_done(copy)
        assert copy.paths.current.readlink().name == self.verb.running
        _, kinds = self.record.of(sent(copy.spool))
        for kind, times in self.verb.reports.items():
            assert kinds[kind] == times, kinds

    def everywhere(self) -> None:
        chosen = list(ways(self.places))
        for place, error in chosen:
            try:
                self.broken_off(place, error)
            except Exception as trouble:
                trouble.add_note(f"{error or 'killed'} at {place} of {self.verb.name}")
                raise
        print(f"{self.verb.name}: {len(chosen)} times broken off at {len(self.places)} places")

    def close(self) -> None:
        self.master.close()
        self.record.close()
        self.nursery.close()


@pytest.fixture
def bench(tmp_path: Path, source: Source, request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(tmp_path, source, request.param)
    yield made
    made.close()


@pytest.mark.heavy
@pytest.mark.timeout(1200)
@traced
@pytest.mark.parametrize("bench", VERBS, indirect=True)
def test_what_a_technician_does_may_be_cut_off_anywhere_and_done_again(bench: Bench) -> None:
    bench.everywhere()


@pytest.mark.heavy
@pytest.mark.timeout(1200)
@traced
def test_an_enrolment_may_be_cut_off_anywhere_and_done_again(tmp_path: Path, source: Source) -> None:
    """The device has one key all the while: the hub would take another for another device under the same id."""
    hub = Hub(tmp_path, source)
    hub.expect()
    paths = Paths(tmp_path / "state")
    words = ["enrol", "--hub", source.url, "--token", hub.token.text(), "--device-id", DEVICE]
    words += ["--state", str(paths.root)]
    with closing(Nursery(tmp_path, ENVIRONMENT)) as nursery:
        places = nursery.trace(words)
        chosen = list(ways(places))
        for place, error in chosen:
            shutil.rmtree(paths.root, ignore_errors=True)
            source.bodies.clear()
            goes_wrong(nursery, place, error, words)
            again = nursery.run(words)
            assert again.code == 0, (place, error, again)
            keys = {codec.decode(body, RegisterRequest, limit=65_536).public_key for body in source.bodies}
            assert keys == {bytes(Identity(paths).key.verify_key)}, (place, error)
            known = memory.need(paths)
            assert (known.role, known.segment) == ("kiosk", "canary")
            left = {
                path.name for path in paths.root.iterdir() if "identity-" in path.name or "enrol" in path.name
            }
            assert left == {paths.identity.readlink().name}, (place, error)
    print(f"enrolment: {len(chosen)} times broken off at {len(places)} places")
