"""A task on a device, the process that does it, and the hub that hears of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.edge.world import Source
from tests.kills.device import ENVIRONMENT, ORDERS, TASKS, Copy, Master, Task
from tests.kills.record import Record
from tests.kills.strace import Nursery

EVERYTHING: Final = os.environ.get("FLAGHOIST_KILLS") == "all"
"""`make kills`: every place in every way."""
HEAVY_STEP: Final = 6
"""Where the heavy suite looks at every sixth place only, and `make kills` at each."""


def _by_name(tasks: Sequence[Task]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "ward", [pytest.param(task, id=task.name) for task in tasks], indirect=True
    )


TASKS_BY_NAME: Final = _by_name(TASKS)
ORDERS_BY_NAME: Final = _by_name(ORDERS)


def only(name: str) -> pytest.MarkDecorator:
    """One task, for the quick suite; the heavy one goes through all of them."""
    return _by_name([task for task in TASKS if task.name == name])


class Ward:
    """A task, ready to be done and to go wrong as often as one likes. `places` are those of its update process."""

    def __init__(self, folder: Path, source: Source, task: Task) -> None:
        self.folder = folder
        self.nursery = Nursery(folder, ENVIRONMENT)
        self.record = Record(folder)
        self.master = Master(folder / "master", source, task)
        self.places = self.nursery.trace(self.copy().command("update"))

    def copy(self) -> Copy:
        return self.master.copy(self.folder / "copy")

    def close(self) -> None:
        self.master.close()
        self.record.close()
        self.nursery.close()
