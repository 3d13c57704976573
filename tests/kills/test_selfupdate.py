"""SIGKILL at, and failures of, the system calls of an update that brings a new agent, up to the start of its trial."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from edge.selfupdate import choice, launcher
from edge.selfupdate.choice import Choice
from tests.edge.world import Source, build, tree
from tests.kills.device import ENVIRONMENT, SHARED, Copy, Master, Task, offered
from tests.kills.record import Record, sent
from tests.kills.strace import Nursery, Place, traced
from tests.kills.test_by_hand import goes_wrong, ways

AGENT = {f"edge/{name}.py": b"# all that a check of it needs\n" for name in ("__init__", "main")}
NEW = build(16, SHARED | {f"files/agent/{path}": data for path, data in AGENT.items()})
TASK = Task("a release with its agent", offered(NEW), NEW)


def starts(copy: Copy, patch: pytest.MonkeyPatch) -> None:
    """Start the build that is wanted, as the launcher does. The hub is there."""
    wanted = choice.load(copy.paths).wanted
    patch.setenv(launcher.BUILD, wanted)
    if wanted:
        choice.note(copy.paths, "reached", wanted)
    copy.power_returns()


def broken_off(copy: Copy, nursery: Nursery, place: Place, error: str, patch: pytest.MonkeyPatch) -> None:
    goes_wrong(nursery, place, error, copy.command("update"))
    copy.whole()
    for _ in range(5):
        starts(copy, patch)
        copy.pass_time(lambda: not copy.jobs.busy)
        if copy.state.running_id == NEW.id:
            return
        # Its next try, or the restart as the other build.
        copy.pass_time(lambda: copy.agent.restart_wanted or copy.state.update.state == TASK.state)  # type: ignore[union-attr]


def settled(copy: Copy) -> None:
    held = choice.load(copy.paths)
    assert held == Choice(chosen=held.chosen) != Choice()
    folders = [path.name for path in choice.home(copy.paths).iterdir() if path.is_dir()]
    assert folders == [held.chosen]
    assert tree(choice.folder(copy.paths, held.chosen)) == AGENT


@pytest.mark.heavy
@pytest.mark.timeout(1200)
@traced
def test_an_update_with_an_agent_in_it_may_be_broken_off_anywhere_and_ends_with_that_agent_whole(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        closing(Nursery(tmp_path, ENVIRONMENT)) as nursery,
        closing(Record(tmp_path)) as record,
        closing(Master(tmp_path / "master", source, TASK)) as master,
    ):
        places = nursery.trace(master.copy(tmp_path / "copy").command("update"))
        chosen = list(ways(places))
        for place, error in chosen:
            with closing(master.copy(tmp_path / "copy")) as copy, monkeypatch.context() as patch:
                try:
                    broken_off(copy, nursery, place, error, patch)
                    copy.comes_to_rest()
                    copy.is_right()
                    settled(copy)
                    record.told_once(copy, sent(copy.spool), tries=bool(error))
                except Exception as trouble:
                    trouble.add_note(f"{error or 'killed'} at {place}")
                    raise
    print(f"an agent on its way in: {len(chosen)} times broken off at {len(places)} places")
