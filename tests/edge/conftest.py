"""Fixtures of the edge's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.config import Paths
from tests.edge.rig import Rig
from tests.edge.world import Box, Source
from tests.support.mosquitto import Broker


@pytest.fixture
def source() -> Iterator[Source]:
    """A server of archives."""
    server = Source()
    yield server
    server.close()


@pytest.fixture
def box(tmp_path: Path, source: Source) -> Iterator[Box]:
    """An enrolled device with nothing installed, connected to an in-memory broker."""
    device = Box(tmp_path, source)
    device.online()
    yield device
    device.close()


@pytest.fixture
def rig(tmp_path: Path, source: Source) -> Iterator[Rig]:
    """A broker, the hub's two voices, and an enrolled device with the hooks that are installed."""
    with Broker(tmp_path / "hub") as broker:
        made = Rig(tmp_path / "edge", broker, source)
        made.paths = Paths(made.paths.root)
        yield made
        made.close()
