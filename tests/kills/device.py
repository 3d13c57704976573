"""A device that stands before something to be done, copied for every place at which that may go wrong."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge.config import Paths
from edge.storage import records
from edge.storage.ledger import ENDED
from edge.storage.state import State
from edge.updating import stage
from tests.edge import blobs
from tests.edge.patient import Patient
from tests.edge.world import DESIRED_TOPIC, MANIFEST_TOPIC, NOW, QUICK, Box, Built, Source, build, tree
from tests.topics import kit
from topics.documents import Command
from topics.trust import sha256

CHANCE: Final = random.Random(11)
SHARED: Final = {f"files/lib/{number}.bin": CHANCE.randbytes(7000) for number in range(5)}
OLDER, OLD = build(8, SHARED), build(9, SHARED)
ENVIRONMENT: Final = {
    f"FLAGHOIST_EDGE_{name.upper()}": str(getattr(QUICK, name))
    for name in ("backoff_base_seconds", "backoff_cap_seconds", "later_seconds", "stall_seconds")
}


@dataclass(frozen=True)
class Task:
    """Something that the update process does.

    `begin` returns the document that orders it, which is retained at `topic`. It is about the release `new`, which ends
    in `state`. One that is no update makes `reports`, how many by kind and state, and calls the hook by `calls`.
    """

    name: str
    begin: Callable[[Box], bytes]
    new: Built
    state: str = "committed"
    topic: str = MANIFEST_TOPIC
    reports: Mapping[tuple[str, str], int] = field(default_factory=dict)
    calls: tuple[str, ...] = ()

    @property
    def running(self) -> Built:
        """The release that runs in the end."""
        return self.new if self.state == "committed" else OLD


def offered(built: Built, add: Callable[[Source, Built], object] = Source.add) -> Callable[[Box], bytes]:
    def begin(box: Box) -> bytes:
        assert box.source is not None
        add(box.source, built)
        return box.manifest(built)

    return begin


def _third_failure(box: Box) -> bytes:
    for sequence in (11, 12):
        box.offer(build(sequence, SHARED | {"files/fail-activate": b""}))
    box.receipt_all()
    return offered(THIRD)(box)


def _go_back(box: Box) -> bytes:
    return box.manifest(OLDER, event="rollback", rollback_from=OLD.release.sequence)


def ordered(box: Box, kind: str) -> bytes:
    """Return a desired state with a command."""
    number = box.numbers.next()
    command = Command(id=f"c-{number}", kind=kind, expires_at=NOW + kit.DAY)  # type: ignore[arg-type]
    return kit.signed_desired(number, commands=[command])


def _command(kind: str) -> Callable[[Box], bytes]:
    return lambda box: ordered(box, kind)


def _safe_mode(order: str) -> Callable[[Box], bytes]:
    return lambda box: kit.signed_desired(box.numbers.next(), safe_mode=order)


def _cleared(box: Box) -> bytes:
    box.hear(_safe_mode("on")(box), DESIRED_TOPIC)
    return _safe_mode(f"cleared:{box.state.safe_mode}")(box)


def _repair(box: Box) -> bytes:
    assert box.source is not None
    folder = box.paths.release(OLD.id)
    box.source.files |= {
        f"/artifacts/kiosk/{OLD.id}/blobs/{sha256(data)}": data for data in tree(folder).values()
    }
    (folder / "files/app.txt").write_bytes(b"rotten")
    (folder / "files/lib/1.bin").unlink()
    (folder / "bundle.json").chmod(0o600)
    (folder / "files/core").write_bytes(b"x")
    return ordered(box, "repair-drift")


WHOLE, CHANGED = build(10, SHARED), build(13, SHARED | {"files/lib/4.bin": CHANCE.randbytes(7000)})
BAD = build(14, SHARED | {"files/fail-probe": b""})
THIRD = build(15, SHARED | {"files/fail-activate": b""})
TASKS: Final = (
    Task("a whole bundle", offered(WHOLE), WHOLE),
    Task("file by file", offered(CHANGED, blobs.offer), CHANGED),
    Task("back to the release before", _go_back, OLDER),
    Task("a release that fails", offered(BAD), BAD, "rolled_back"),
    Task("into safe mode", _third_failure, THIRD, "rolled_back"),
    Task("repair", _repair, OLD, "committed", DESIRED_TOPIC, {("drift", ""): 1}, (f"rollback {OLD.id}",)),
)
ANSWER: Final = ("command-result", "")
ORDERS: Final = (
    Task(
        "safe mode by order",
        _safe_mode("on"),
        OLD,
        "committed",
        DESIRED_TOPIC,
        {("recovery", "entered"): 1, ("recovery", "diagnostics"): 1},
        (f"safe-mode {OLD.id}",),
    ),
    Task("out of safe mode", _cleared, OLD, "committed", DESIRED_TOPIC, {("recovery", "left"): 1}),
    Task(
        "redeploy",
        _command("redeploy"),
        OLD,
        "committed",
        DESIRED_TOPIC,
        {ANSWER: 1},
        (f"rollback {OLD.id}",),
    ),
    Task(
        "check for drift",
        _command("check-drift"),
        OLD,
        "committed",
        DESIRED_TOPIC,
        {ANSWER: 1, ("drift", ""): 1},
    ),
    Task(
        "diagnostics",
        _command("collect-diagnostics"),
        OLD,
        "committed",
        DESIRED_TOPIC,
        {ANSWER: 1, ("recovery", "diagnostics"): 1},
    ),
)
"""What an operator orders of a device beside updates."""


class Master(Patient):
    """A device that has just begun a task or, if not `begun`, has not heard of it yet."""

    def __init__(self, root: Path, source: Source, task: Task, *, begun: bool = True) -> None:
        super().__init__(root, source)
        self.task = task
        self.offer(OLDER)
        self.offer(OLD)
        self.order = task.begin(self)
        self.receipt_all()
        if begun:
            self.agent.on_message(task.topic, self.order)
            assert self.jobs.busy

    def copy(self, root: Path) -> Copy:
        """Return a copy of it, all of its files, in the folder `root`."""
        return Copy(self, root)


class Copy(Box):
    """A copy of a master, whose agent is not running."""

    task: Task
    order: bytes

    def __init__(self, master: Master, root: Path) -> None:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(master.root, root, symlinks=True)
        vars(self).update(vars(master))
        self.root, self.paths = root, Paths(root / "state", root / "hooks")
        self._spool = None

    def close(self) -> None:
        if self._spool is not None:
            super().close()

    def command(self, verb: str) -> list[str]:
        """Return the arguments of a command on this device."""
        return [verb, "--state", str(self.paths.root), "--hooks", str(self.paths.hooks)]

    def whole(self) -> None:
        """Assert that `current` is a release that may run now, every byte of it, and that `state` can be read."""
        assert records.load(self.paths.state, State)[1], "the newest state is not whole"
        name = self.paths.current.readlink().name
        (built,) = [each for each in (OLD, self.task.new) if each.id == name][:1]
        if self.task.name != "repair":
            assert stage.stands(self.paths, built.release), f"{name} is current, but not whole"

    def power_returns(self) -> None:
        """Start the agent, which finishes or undoes what it finds."""
        self.start()
        self.online()
        self.hear(self.order, self.task.topic)

    def comes_to_rest(self) -> None:
        """Let time pass until what was ordered is done, or undone for good."""

        def done() -> bool:
            update = self.state.update
            assert update is not None
            ended = update.state in ENDED and update.state == self.task.state and not self.jobs.busy
            waits = self.state.inspect or self.state.collect or self.state.again or self.state.outbox
            return ended and not waits

        self.pass_time(done)

    def is_right(self) -> None:
        """Assert that what was ordered has become of the device, and that nothing else is left of it."""
        running, standing = self.task.running, self.state
        assert standing.running_id == running.id == self.paths.current.readlink().name
        assert stage.stands(self.paths, running.release)
        assert standing.previous is not None
        assert self.paths.previous.readlink().name == standing.previous.release.id
        self.clean()

    def clean(self) -> None:
        """Assert that nothing is on disk that belongs to no release kept."""
        standing = self.state
        kept = {each.release.id for each in (standing.running, standing.previous) if each}
        assert {path.name for path in self.paths.releases.iterdir()} == kept
        assert {path.name for path in (self.paths.root / "rendered").iterdir()} <= kept
        documents = {name for each in kept for name in (each, f"{each}.checksums")}
        assert {path.name for path in (self.paths.root / "meta").iterdir()} == documents
        assert list(self.paths.downloads.iterdir()) == []

    def takes_the_next(self) -> None:
        """Assert that the device takes updates as before."""
        if entry := self.state.safe_mode:
            self.hear(kit.signed_desired(self.numbers.next(), safe_mode=f"cleared:{entry}"), DESIRED_TOPIC)
        following = build(20, SHARED)
        self.offer(following)
        assert self.state.running_id == following.id
        assert stage.stands(self.paths, following.release)
        self.clean()
        # Not before: what a killed step has left of a small file is overwritten by the next.
        assert [path.name for path in self.paths.root.glob(".*")] == []
