from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.access.browsing import Browser
from tests.hub.access.issuer import Issuer
from tests.hub.world import World
from tests.hub.world import world as open_world

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Issuer]]:
    """A hub whose people log in at a provider that answers from memory, found at https://hub.example."""
    issuer = Issuer()
    folder: Path = tmp_path_factory.mktemp("shop")
    with open_world(folder, issuer=issuer, public_url="https://hub.example") as world:
        world.trust_root()
        yield world, issuer


@pytest.fixture
def shop(made: tuple[World, Issuer]) -> World:
    """That hub two hours later: it asks the provider anew, and no minute's bound is used up."""
    world, issuer = made
    world.now += 2 * HOUR_MS
    issuer.reset()
    return world


@pytest.fixture
def issuer(shop: World, made: tuple[World, Issuer]) -> Issuer:
    """Its provider, as it was made."""
    return made[1]


@pytest.fixture
def browser(shop: World, issuer: Issuer) -> Browser:
    """A browser in which nobody has logged in yet."""
    return Browser(shop, issuer)
