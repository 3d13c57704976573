"""Fixtures of the tests in which something goes wrong at one system call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.world import Source
from tests.kills.ward import Ward


@pytest.fixture
def source() -> Iterator[Source]:
    """A server of archives."""
    server = Source()
    yield server
    server.close()


@pytest.fixture
def ward(tmp_path: Path, source: Source, request: pytest.FixtureRequest) -> Iterator[Ward]:
    """A task (the parameter), ready to be done and to go wrong as often as one likes."""
    made = Ward(tmp_path, source, request.param)
    yield made
    made.close()
