"""What the agent does on a full disk, and with a bundle that is not the signed one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.edge.world import (
    MANIFEST_TOPIC,
    QUICK,
    Box,
    Source,
    build,
)
from topics import codec
from topics.channels import UPLINK_LIMIT
from topics.messages import Presence


def test_a_full_disk_fails_the_update_and_space_mends_it(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """D2: nothing is left behind, nothing is condemned, and it is tried again."""
    old, new = build(7), build(8)
    box.offer(old)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("edge.updating.stage._write", full)
        box.offer(new)
        update = box.state.update
        assert update is not None and update.state == "failed" and update.reason == "the disk is full"
        assert [path.name for path in box.paths.releases.iterdir()] == [old.id]
        assert list(box.paths.downloads.iterdir()) == []
        assert box.state.failed == []
    box.pass_time(lambda: box.state.running_id == new.id)


def test_a_disk_that_is_full_from_the_start_is_noticed_before_unpacking(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.updating.stage.RESERVE", 2**60)
    box.offer(build(7))
    update = box.state.update
    assert (
        update is not None and update.reason.startswith("the disk is full: ") and "reserve" in update.reason
    )


def no_room(patch: pytest.MonkeyPatch) -> None:
    """Let no file of the agent's be written any more."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    patch.setattr("edge.storage.disk.replace", full)
    patch.setattr("edge.storage.spool.Spool._write", full)


def test_a_device_whose_disk_stays_full_is_reached_runs_on_says_so_and_goes_on_once_there_is_room(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D2: what is not on disk is not believed, or after a restart the guard against replays would be gone."""
    box = Box(tmp_path, source, msgspec.structs.replace(QUICK, resend_seconds=0.05))
    box.online()
    old, new = build(7), build(8)
    box.offer(old)
    box.agent.on_disconnected()
    session = box.memory.session
    source.add(new)
    believed = box.memory.manifest
    with monkeypatch.context() as patch:
        no_room(patch)
        _, will = box.agent.will()
        box.agent.on_connected()
        assert codec.decode(will, Presence, limit=UPLINK_LIMIT).session == session + 1
        box.hear(box.manifest(new))
        box.agent.report_now()
        assert (box.status.health, box.status.running and box.status.running.id) == ("degraded", old.id)
        # Its timers fire, and come to nothing.
        before = len(box.link.of("status"))
        for _ in range(3):
            box.pass_time(lambda: True)
            box.agent.report_now()
        assert len(box.link.of("status")) == before + 3
        assert (box.memory.manifest, box.state.running_id) == (believed, old.id)
    box.pass_time(lambda: box.state.running_id == new.id)
    box.agent.report_now()
    assert box.status.health == "ok"
    assert box.memory.session == session + 1
    box.close()


def test_what_waits_for_the_disk_is_forgotten_once_something_newer_was_written(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older document is a replay, and would be reported as one."""
    box = Box(tmp_path, source, msgspec.structs.replace(QUICK, resend_seconds=0.05))
    box.online()
    older, newer = box.manifest(), box.manifest()
    with monkeypatch.context() as patch:
        no_room(patch)
        box.hear(older)
    box.hear(newer)

    def has_fired() -> bool:
        deadline = box.agent.deadline
        return deadline is not None and deadline > box.clock.steady() + 1

    box.pass_time(has_fired)
    refused = box.link.of("update-result")
    box.close()
    assert refused == []
    assert box.memory.manifest == newer


def test_a_disk_that_has_room_again_is_noticed_although_nothing_waits_to_be_written(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.offer(build(7))
    session = box.memory.session
    with monkeypatch.context() as patch:
        no_room(patch)
        box.agent.will()
        box.agent.on_connected()
        assert box.status.health == "degraded"
    box.agent.report_now()
    assert (box.status.health, box.memory.session) == ("ok", session + 1)


def test_an_update_process_that_dies_again_and_again_is_given_up_on(box: Box) -> None:
    built = build(7)
    assert box.source is not None
    box.source.add(built)
    box.agent.on_message(MANIFEST_TOPIC, box.manifest(built))
    for _ in range(200):
        if box.state.update is not None and box.state.update.state == "failed":
            break
        if box.jobs.busy:
            box.jobs.busy = False
            box.agent.on_job_end(-9)
        box.pass_time(lambda: box.jobs.busy or box.results()[-1] == ("failed", built.id), settle=False)
    assert box.results()[-1] == ("failed", built.id)
    assert box.state.failed == []


def test_a_bundle_that_is_not_the_signed_one_is_never_installed(box: Box, source: Source) -> None:
    """Mix-and-match: the bundle of another release under this one's name."""
    old, new = build(7), build(8)
    box.offer(old)
    source.archives[new.id] = old.archive
    box.hear(box.manifest(new))
    update = box.state.update
    assert update is not None and update.state == "failed"
    assert "bytes where" in update.reason and "were signed" in update.reason
    assert box.state.running_id == old.id
