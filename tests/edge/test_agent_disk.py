"""What the agent does on a full disk, and with a bundle that is not the signed one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.edge.world import (
    MANIFEST_TOPIC,
    Box,
    Source,
    build,
)


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


def test_a_document_that_cannot_be_written_down_is_taken_again_later(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D2: trust that is not on disk would be gone after a restart, and with it the guard against replays."""
    built = build(7)
    assert box.source is not None
    box.source.add(built)
    body = box.manifest(built)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("edge.storage.memory.save", full)
        box.hear(body)
    assert box.link.dropped == ["the disk refuses"]
    assert box.state.running is None
    box.hear(body)
    assert box.state.running_id == built.id


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
