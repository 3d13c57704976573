from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A hub with its root of trust and an example repository; everything ends with the test."""
    with Fleet(tmp_path).ready() as made:
        yield made
