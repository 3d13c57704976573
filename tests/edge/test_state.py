"""The state file after power cuts that left it torn, empty or full of zeros (D4)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.config import Paths
from edge.errors import NotReady
from edge.storage import memory, records, state
from edge.storage.state import Installed, State
from tests.edge.world import Box, build
from topics.documents import Release


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    places = Paths(tmp_path)
    places.make()
    return places


def release(sequence: int) -> Release:
    return build(sequence).release


DAMAGE = [
    pytest.param(lambda data: b"", id="empty"),
    pytest.param(lambda data: bytes(len(data)), id="all zero bytes"),
    pytest.param(lambda data: data[: len(data) // 2], id="torn"),
    pytest.param(lambda data: data[:-1] + b"\0", id="one byte wrong"),
    pytest.param(lambda data: b"\xff" * 100, id="garbage"),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_falls_back_to_the_one_before(paths: Paths, damage: Callable[[bytes], bytes]) -> None:
    state.save(paths, State(id="aa", running=Installed(release(7))))
    state.save(paths, State(id="aa", running=Installed(release(8))))
    paths.state.write_bytes(damage(paths.state.read_bytes()))
    loaded = state.load(paths)
    assert loaded.running_id == release(7).id
    assert loaded.id != "aa", "serials of the old series may have been used already"


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_state_that_is_lost_altogether_is_taken_from_what_current_points_to(
    paths: Paths, damage: Callable[[bytes], bytes]
) -> None:
    state.remember_release(paths, release(7), b"{}")
    paths.current.symlink_to(f"releases/{release(7).id}")
    state.save(paths, State(id="aa"))
    state.save(paths, State(id="aa"))
    for path in paths.root.glob("state*"):
        path.write_bytes(damage(path.read_bytes()))
    assert state.load(paths).running_id == release(7).id


def test_a_new_device_runs_nothing(paths: Paths) -> None:
    assert state.load(paths).running is None


def test_a_state_of_a_newer_agent_is_not_guessed_at(paths: Paths) -> None:
    state.save(paths, State(id="aa"))
    paths.state.write_bytes(b"FHR2" + paths.state.read_bytes()[4:])
    with pytest.raises(NotReady, match="newer agent"):
        state.load(paths)


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_agent_with_a_damaged_state_still_takes_updates(
    box: Box, damage: Callable[[bytes], bytes]
) -> None:
    first, second = build(7), build(8)
    box.offer(first)
    box.paths.state.write_bytes(damage(box.paths.state.read_bytes()))
    box.start()
    box.online()
    assert box.state.running_id == first.id
    box.offer(second)
    assert box.state.running_id == second.id


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_memory_falls_back_and_still_refuses_replays(
    box: Box, damage: Callable[[bytes], bytes]
) -> None:
    first = build(7)
    assert box.source is not None
    box.source.add(first)
    old = box.manifest(first)
    box.hear(old)
    box.offer(build(8))
    box.receipt_all()
    box.paths.memory.write_bytes(damage(box.paths.memory.read_bytes()))
    box.start()
    box.online()
    box.hear(old)
    assert box.state.running_id == build(8).id


def test_a_device_without_memory_says_how_to_get_one(paths: Paths) -> None:
    with pytest.raises(NotReady, match="start the agent, which makes it anew from"):
        memory.need(paths)


def test_a_save_that_fails_leaves_the_old_record(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """D2."""
    state.save(paths, State(id="aa", failures=1))

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("edge.storage.disk.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            state.save(paths, State(id="aa", failures=2))
    loaded, newest = records.load(paths.state, State)
    assert newest
    assert loaded is not None and loaded.failures == 1
    assert not list(paths.root.glob(".state*"))
