"""What a killed emulator loses, which is what makes its end a power cut."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lab import debian

pytestmark = pytest.mark.skipif(shutil.which("qemu-io") is None, reason="qemu-io is missing (qemu-utils)")

NEW, KNOWN = "128k", "0"
"""A block that the layer has not got, and one that it has."""


def io(layer: Path, *commands: str) -> str:
    words = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(
        ["qemu-io", "-t", "writeback", *words, layer], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    (tmp_path / "below").write_bytes(bytes(1 << 20))
    debian.overlay(tmp_path / "below", "raw", tmp_path / "layer")
    io(tmp_path / "layer", f"write -P 1 {KNOWN} 64k", "flush")
    return tmp_path / "layer"


@pytest.mark.parametrize(
    ("place", "flush", "found"),
    [
        pytest.param(NEW, (), 0, id="a new block that was not flushed is lost"),
        pytest.param(NEW, ("flush",), 2, id="a new block that was flushed stays"),
        pytest.param(KNOWN, (), 2, id="a known block is written in place"),
    ],
)
def test_a_kill_loses_newly_written_blocks_that_no_flush_followed(
    layer: Path, place: str, flush: tuple[str, ...], found: int
) -> None:
    io(layer, f"write -P 2 {place} 64k", *flush, "sigraise 9")
    assert "failed" not in io(layer, f"read -P {found} {place} 64k")
    assert "failed" in io(layer, f"read -P 9 {place} 64k")


def test_what_a_layer_holds_goes_below_when_it_is_merged(layer: Path) -> None:
    debian.merge(layer)
    assert (layer.parent / "below").read_bytes()[: 64 << 10] == bytes([1]) * (64 << 10)
