"""Fixtures of the edge's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.world import Box, Source


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
