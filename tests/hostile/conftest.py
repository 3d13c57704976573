from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.fleet import Fleet
from tests.hostile.harbour import Harbour


@pytest.fixture(scope="session")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    """One hub for all rows: what a row leaves behind, the next must stand as well."""
    fleet = Fleet(tmp_path_factory.mktemp("harbour"))
    try:
        fleet.start_hub()
        fleet.make_trust()
        made = Harbour(fleet)
        yield made
        made.good.close()
    finally:
        fleet.close()
