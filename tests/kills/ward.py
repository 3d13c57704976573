"""A task on a device, the process that does it, and the hub that hears of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.edge.world import Source
from tests.kills.device import ENVIRONMENT, OLD, TASKS, Copy, Master, Task
from tests.kills.record import Record
from tests.kills.strace import Nursery

EVERYTHING: Final = os.environ.get("FLAGHOIST_KILLS") == "all"
"""`make kills`: every place in every way."""
TASKS_BY_NAME: Final = pytest.mark.parametrize(
    "ward", [pytest.param(task, id=task.name) for task in TASKS], indirect=True
)


class Ward:
    """A task, ready to be done and to go wrong as often as one likes. `places` are those of its update process."""

    def __init__(self, folder: Path, source: Source, task: Task) -> None:
        self.folder = folder
        self.nursery = Nursery(folder, ENVIRONMENT)
        self.record = Record(folder)
        self.master = Master(folder / "master", source, task)
        self.places = self.nursery.trace(self.copy().update_command)

    def copy(self) -> Copy:
        return self.master.copy(self.folder / "copy")

    def told_once(self, copy: Copy, *, tries: bool = False) -> None:
        """Assert that the hub knows what became of it, once, however often the reports came.

        With `tries`, attempts may have failed before; each has its begin and its end.
        """
        task = copy.task
        states, kinds = self.record.of(copy.spool.reports)
        if task.name == "repair":
            assert kinds[("drift", "")] == 1
            assert f"rollback {OLD.id}" in copy.calls(), "what was put right must be started again"
            return
        ((release, (state, attempt)),) = states.items()
        assert (release, state) == (task.new.id, task.state)
        assert kinds[("update-result", task.state)] == 1
        ended_before = kinds[("update-result", "failed")]
        assert kinds[("update-result", "downloading")] == ended_before + 1
        assert not ended_before or tries
        assert attempt == 1 + ended_before + (task.name == "back to the release before")
        assert kinds[("recovery", "entered")] == bool(copy.state.safe_mode) == (task.name == "into safe mode")

    def close(self) -> None:
        self.master.close()
        self.record.close()
        self.nursery.close()
