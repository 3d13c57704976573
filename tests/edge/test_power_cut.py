"""The power fails at every step of an update: the device always runs one whole release, and reports it once.

A forked copy of the device kills itself at the n-th step that touches the disk or calls a hook; then the
device starts again on what is left, and the same retained manifest arrives.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from edge.download.fetch import Fetcher
from edge.storage import disk
from edge.storage.spool import Spool
from edge.updating import activate, hooks, stage, templates
from tests.edge.world import MANIFEST_TOPIC, Box, Built, Source, build, tree

SHARES = 12
"""The points are shared among as many tests, so that they run beside each other."""


class Fuse:
    """Ends this process when it burns down: before and after each step."""

    def __init__(self, length: int) -> None:
        self._left = length

    def burn(self) -> None:
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def lay(self, owner: Any, name: str) -> None:
        """Make every call of `owner.name` burn the fuse."""
        step: Callable[..., Any] = getattr(owner, name)

        @wraps(step)
        def stepped(*args: Any, **kwargs: Any) -> Any:
            self.burn()
            result = step(*args, **kwargs)
            self.burn()
            return result

        setattr(owner, name, stepped)


def dies_at(point: int, act: Callable[[], None]) -> bool:
    """Run `act` in a copy of this process; True when the fuse of length `point` ended it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            fuse = Fuse(point)
            for owner, name in (
                (disk, "write_durable"),
                (disk, "link"),
                (disk, "fsync_dir"),
                (disk, "remove"),
                (hooks, "run"),
                (templates, "render"),
                (Spool, "_write"),
                (Path, "replace"),
                (Path, "rename"),
            ):
                fuse.lay(owner, name)
            act()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def whole(box: Box, *allowed: Built) -> None:
    """Assert that `current` is one of the releases, every byte of it."""
    name = box.paths.current.readlink().name
    (built,) = [candidate for candidate in allowed if candidate.id == name]
    assert stage.stands(box.paths, built.release), f"{name} is current, but not whole"


def lives(
    tmp_path: Path, source: Source, share: int, make: Callable[[], Built]
) -> Iterator[tuple[Box, Built, Built]]:
    """Yield a device for each point of one update, after the power failed there and it started again."""
    old, new = source.add(build(7)), source.add(make())
    for point in range(share, 10_000, SHARES):
        box = Box(tmp_path / str(point), source)
        box.online()
        box.offer(old)
        box.receipt_all()
        offer = box.manifest(new)
        died = dies_at(point, lambda box=box, offer=offer: box.hear(offer))  # type: ignore[misc]
        whole(box, old, new)
        box.start()
        box.online()
        box.hear(offer, MANIFEST_TOPIC)
        # A pause before the next try may be left to wait for.
        for _ in range(100):
            if box.state.update and box.state.update.release.id == new.id and not box.jobs.busy:
                break
            box.agent.tick()
            box.settle()
        yield box, old, new
        box.close()
        if not died:
            assert point > 60, "the fuse was laid past the update"
            return


SOME_HERE_ALL_HEAVY = pytest.mark.parametrize(
    "share", [0, *(pytest.param(share, marks=pytest.mark.heavy) for share in range(1, SHARES))]
)
"""Every twelfth kill point in the quick suite, the others in the heavy one."""


@SOME_HERE_ALL_HEAVY
def test_a_good_release_is_committed_and_reported_once(tmp_path: Path, source: Source, share: int) -> None:
    for box, _old, new in lives(tmp_path, source, share, lambda: build(8)):
        assert box.state.running_id == new.id
        assert tree(box.paths.current)["files/app.txt"] == b"app 8"
        assert box.results() == [("downloading", new.id), ("committed", new.id)]
        numbers = [entry.n for entry in box.spool.reports]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert box.state.outbox == []
        assert not list(box.paths.releases.glob(".staging-*"))


@SOME_HERE_ALL_HEAVY
def test_a_bad_release_gives_way_and_is_reported_once(tmp_path: Path, source: Source, share: int) -> None:
    bad = build(8, {"files/fail-probe": b""})
    for box, old, new in lives(tmp_path, source, share, lambda: bad):
        assert box.state.running_id == old.id
        assert box.paths.current.readlink().name == old.id
        assert box.results() == [("downloading", new.id), ("rolled_back", new.id)]
        assert box.state.failed == [new.id]
        assert box.state.update is not None and box.state.update.reason == "probe: no probe today"


def test_quick_power_cycles_do_not_condemn_a_good_release(tmp_path: Path, source: Source) -> None:
    """D6: a release that was only interrupted is tried again."""
    old, new = source.add(build(7)), source.add(build(8))
    box = Box(tmp_path, source)
    box.online()
    box.offer(old)
    offer = box.manifest(new)

    def stop_in_activate(box: Box) -> None:
        hooks.run = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]

    box.agent.on_message(MANIFEST_TOPIC, offer)
    for _ in range(box.settings.max_activations):
        pid = os.fork()
        if pid == 0:
            stop_in_activate(box)
            box.update()
            os._exit(1)
        os.waitpid(pid, 0)
        box.start()
    box.online()
    assert ("rolled_back", new.id) in box.results(), "on a slow machine the next try may be over by now"
    assert box.state.failed == []
    box.pass_time(lambda: box.state.running_id == new.id)
    box.close()


NOTHING_RUNS = """#!/bin/sh
cd "$FLAGHOIST_STATE_DIR"
echo "$1 $FLAGHOIST_RELEASE_ID beside $(cat runs)" >> hook.log
case "$1" in
  activate) echo "$FLAGHOIST_RELEASE_ID" > runs ;;
  probe) [ "$(cat runs)" = "$FLAGHOIST_RELEASE_ID" ] || { echo "$(cat runs) runs" >&2; exit 1; } ;;
esac
"""
"""A hook for a service that a boot ends: `runs` names the release that runs."""


@pytest.mark.parametrize(
    ("owner", "name", "stood"),
    [
        pytest.param(Box, "fetcher", "downloading", id="in mid-download"),
        pytest.param(activate, "point", "activating", id="before the swap"),
    ],
)
def test_after_a_boot_the_release_before_runs_while_the_update_goes_on(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, stood: str
) -> None:
    """A download may take hours, and nothing runs after a boot."""
    old, new = source.add(build(7)), source.add(build(8))
    box = Box(tmp_path, source)
    box.hook("fake", NOTHING_RUNS)
    runs = box.paths.root / "runs"
    runs.write_text("nothing")
    box.online()
    box.offer(old)
    box.agent.on_message(MANIFEST_TOPIC, box.manifest(new))
    if os.fork() == 0:
        setattr(owner, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        box.update()
        os._exit(1)
    os.wait()
    assert (box.state.update and box.state.update.state, runs.read_text().strip()) == (stood, old.id)
    runs.write_text("nothing")
    box.boot = "boot-2"
    seen: list[str] = []
    fetcher = box.fetcher

    def looking(urls: list[str]) -> Fetcher:
        seen.append(runs.read_text().strip())
        return fetcher(urls)

    monkeypatch.setattr(box, "fetcher", looking)
    box.start()
    box.online()
    assert box.state.running_id == new.id
    assert seen == ([old.id] if stood == "downloading" else [])
    log = (box.paths.root / "hook.log").read_text()
    assert log.splitlines()[-1].startswith(f"confirm {new.id}")
    assert f"install {new.id} beside {old.id}" in log.split(f"activate {old.id} beside nothing")[-1]
    box.close()
