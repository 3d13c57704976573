"""A device that loses its memory: what it starts again from, and what it refuses all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edge.errors import NotReady
from edge.storage import anchor, memory, records
from edge.storage.anchor import Anchor
from edge.storage.memory import Memory
from edge.storage.spool import Entry
from edge.storage.state import Installed, State, Update
from tests.edge.world import DESIRED_TOPIC, MANIFEST_TOPIC, NOW, ROOT, Box, build
from tests.topics import kit
from topics import codec
from topics.documents import Command
from topics.messages import CommandResult
from topics.trust import Mark, pin_root, sha256

SERIES = "11" * 8


def lose_memory(box: Box) -> None:
    for path in (box.paths.memory, box.paths.memory.with_name("memory.before")):
        path.write_bytes(bytes(100))


def anew(box: Box) -> None:
    """Start the agent anew, connected."""
    box.start()
    box.online()


def test_both_generations_of_the_memory_lost_and_the_device_goes_on(box: Box) -> None:
    box.offer(build(7, floor=4))
    before = box.memory
    lose_memory(box)
    anew(box)
    now = box.memory
    assert (now.role, now.segment, now.trust.root_bytes) == ("kiosk", "canary", ROOT)
    assert now.trust.floor("kiosk") == 4
    assert now.boot[0] >= before.boot[0]
    assert now.id != before.id
    box.offer(build(8))
    assert box.state.running_id == build(8).id


def test_what_is_older_than_the_last_update_is_refused_after_a_loss_and_the_same_is_taken(box: Box) -> None:
    old = box.manifest(box.source.add(build(6)) if box.source else None)
    offered = box.manifest(box.source.add(build(7)) if box.source else None)
    box.hear(offered)
    assert box.state.running_id == build(7).id
    lose_memory(box)
    anew(box)
    box.hear(old)
    assert box.status.verdict is not None
    assert (box.status.verdict.reason, box.status.verdict.check) == ("untrusted", "replayed")
    box.hear(offered)
    assert box.status.verdict.reason == "already_installed"
    assert box.memory.manifest == offered


def test_a_command_whose_answer_still_waits_is_not_done_again(box: Box) -> None:
    command = Command(id="c-1", kind="restart-agent", expires_at=NOW + kit.DAY)
    body = kit.signed_desired(box.numbers.next(), commands=[command])
    box.hear(body, DESIRED_TOPIC)
    assert box.agent.restart_wanted
    lose_memory(box)
    anew(box)
    box.hear(body, DESIRED_TOPIC)
    assert not box.agent.restart_wanted


def test_the_anchor_is_written_for_floors_and_places_and_not_for_every_document(box: Box) -> None:
    written = box.paths.anchor.stat().st_ino
    box.hear(box.manifest(None))
    box.agent.will()
    assert box.paths.anchor.stat().st_ino == written
    box.offer(build(7, floor=2))
    raised = box.paths.anchor.stat().st_ino
    assert raised != written
    box.hear(kit.signed_desired(box.numbers.next(), segment="early"), DESIRED_TOPIC)
    assert box.paths.anchor.stat().st_ino != raised


def test_a_device_of_an_earlier_agent_gets_its_anchor_at_the_next_start(box: Box) -> None:
    box.paths.anchor.unlink()
    anew(box)
    assert box.paths.anchor.exists()


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda path: path.unlink(), id="gone"),
        pytest.param(lambda path: path.write_bytes(b"\0" * 64), id="zeros"),
        pytest.param(
            lambda path: records.save(path, Anchor(root=b"x", role="a", segment="b", update_interval=1)),
            id="no root",
        ),
        pytest.param(
            lambda path: records.save(
                path,
                Anchor(root=kit.signed_root(fleet="other"), role="a", segment="canary", update_interval=1),
            ),
            id="another fleet",
        ),
    ],
)
def test_without_an_anchor_of_this_fleet_only_enrolling_helps(box: Box, harm: Callable[[Path], None]) -> None:
    lose_memory(box)
    box.paths.anchor.with_name("anchor.before").unlink(missing_ok=True)
    harm(box.paths.anchor)
    with pytest.raises(NotReady, match="run flaghoist-edge enrol again with a new token"):
        box.start()


def standing(*, running: int = 0, floor: int = 0, manifest: int = 0) -> State:
    installed = Installed(kit.release(7, floor=running)) if running else None
    update = (
        Update(
            release=kit.release(8, floor=floor), sources=[], attempt=1, segment="canary", manifest=manifest
        )
        if manifest
        else None
    )
    return State(id="00" * 8, running=installed, update=update)


@pytest.mark.parametrize(
    ("floors", "marks", "state", "floor", "mark"),
    [
        pytest.param({"kiosk": 3}, {}, standing(), 3, 0, id="nothing was ever installed"),
        pytest.param({"kiosk": 3}, {}, standing(running=5), 5, 0, id="a running release's floor is higher"),
        pytest.param({"kiosk": 6}, {}, standing(running=5), 6, 0, id="the anchor's floor is higher"),
        pytest.param({}, {}, standing(floor=2, manifest=50), 2, 49, id="the release being tried"),
        pytest.param(
            {},
            {MANIFEST_TOPIC: Mark(90, "ff")},
            standing(manifest=50),
            0,
            90,
            id="the anchor's mark is newer",
        ),
        pytest.param(
            {}, {MANIFEST_TOPIC: Mark(50, "ff")}, standing(manifest=50), 0, 50, id="both are of one manifest"
        ),
    ],
)
def test_rebuilding_takes_the_higher_of_what_is_known(
    floors: dict[str, int], marks: dict[str, Mark], state: State, floor: int, mark: int
) -> None:
    held = Anchor(root=ROOT, role="kiosk", segment="canary", update_interval=77, floors=floors, marks=marks)
    made = anchor.rebuilt(held, pin_root(ROOT, sha256(ROOT)), state, [], SERIES)
    assert (made.trust.floor("kiosk"), made.trust.issued_at(MANIFEST_TOPIC)) == (floor, mark)
    assert (made.id, made.update_interval, made.boot[0]) == (SERIES, 77, 0)


def test_answers_in_the_spool_count_as_done_and_what_is_no_answer_is_passed_over() -> None:
    held = Anchor(root=ROOT, role="kiosk", segment="canary", update_interval=77)
    answer = CommandResult(boot=(1, "00000000"), at=1, spool="00" * 4, n=1, command="c-9", ok=True)
    waiting = [
        Entry("00" * 4, 1, "memory:x", 1, "command-result", codec.encode(answer)),
        Entry("00" * 4, 2, "memory:x", 2, "command-result", b"\xc1"),
        Entry("00" * 4, 3, "update:x", 1, "update-result", codec.encode(answer)),
    ]
    made = anchor.rebuilt(held, pin_root(ROOT, sha256(ROOT)), standing(), waiting, SERIES)
    assert made.done == ["c-9"]


def test_a_boot_counter_made_anew_stands_above_what_was_lost_without_a_clock() -> None:
    known = Memory(
        id=SERIES,
        trust=msgspec.structs.replace(pin_root(ROOT, sha256(ROOT)), marks={MANIFEST_TOPIC: Mark(NOW, "")}),
        role="kiosk",
        segment="canary",
    )
    assert memory.booted(known, 5_000, b"1234").boot == (NOW // 1000, b"1234".hex())
