"""Every type that threads decode is known to msgspec before the hub starts its first thread."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from hub import app
from hub.config import Address, Settings
from hub.prepare import prepare_types
from topics.schema import KINDS


class Seen(Exception):  # noqa: N818  (named by outcome)
    """The types were asked for."""


def test_types_are_prepared_before_anything_else_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare() -> int:
        assert threading.active_count() == before
        raise Seen

    async def run() -> None:
        settings = Settings(
            data=tmp_path / "hub", fleet="demo", http=Address("127.0.0.1", 0), mqtt=Address("127.0.0.1", 0)
        )
        async with app.running(settings):
            pass

    monkeypatch.setattr(app, "prepare_types", prepare)
    before = threading.active_count()
    with pytest.raises(Seen):
        asyncio.run(run())
    assert not (tmp_path / "hub").exists()


def test_every_kind_on_the_wire_is_among_the_prepared_types() -> None:
    assert prepare_types() >= len(KINDS)
