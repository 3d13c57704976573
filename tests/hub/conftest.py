from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.world import World
from tests.hub.world import world as open_world


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[World]:
    """A hub that has no root of trust yet."""
    with open_world(tmp_path) as made:
        yield made


@pytest.fixture
def world(bare: World) -> World:
    """A hub with its root of trust."""
    bare.trust_root()
    return bare


@pytest.fixture
def hub(world: World) -> World:
    """A hub with one device, shop-1, that was heard of."""
    world.device("shop-1")
    world.heartbeat("shop-1")
    return world
