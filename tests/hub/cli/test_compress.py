"""Bundles are packed into the same bytes on any machine."""

from __future__ import annotations

import gzip
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import cramjam
import pytest

from hub.cli import compress
from hub.cli.compress import CHUNK, Gzip
from tests.hub.cli.conftest import Flaghoist, Repo
from tests.hub.cli.test_build import build, release_of


def sample() -> bytes:
    """Return text, noise, lines and runs: 2.7 MB that meet every kind of block."""
    chance = random.Random(5)
    words = [chance.randbytes(4).hex().encode() for _ in range(3000)]
    lines = b"".join(b"line %d of a log file\n" % n for n in range(20_000))
    return b" ".join(chance.choices(words, k=100_000)) + chance.randbytes(300_000) + lines + bytes(1_000_000)


def packed(pieces: Iterator[bytes]) -> bytes:
    out: list[bytes] = []
    stream = Gzip(out.append)
    for piece in pieces:
        stream.write(piece)
    stream.close()
    return b"".join(out)


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("size", [1000, 65_536, CHUNK, CHUNK + 1, 10 * CHUNK])
def test_the_archive_is_the_same_however_it_was_read(size: int) -> None:
    """The hash was seen on x86-64, with and without AVX2, and on aarch64."""
    data = sample()
    archive = packed(cut(data, size))
    assert (
        hashlib.sha256(archive).hexdigest()
        == "bf9b0e05ac25ab32a815baaa85980da67b153d50289da39d84985bb25b90be5a"
    )
    assert gzip.decompress(archive) == data


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK])
def test_what_was_packed_unpacks(size: int) -> None:
    data = bytes(size)
    assert gzip.decompress(packed(cut(data, 4096))) == data


def test_a_release_has_the_bundle_that_it_has_everywhere(built: Path) -> None:
    assert (
        release_of(built).bundle.sha256 == "8f3e7f5460b89a1e2d2c0ec86c4bdccdcd69e534183d9e9da61ba14b381d3f73"
    )


def test_the_compressor_is_named(flaghoist: Flaghoist, repo: Repo, tmp_path: Path) -> None:
    assert f"packed by\t{compress.NAME}" in build(flaghoist, repo.path, tmp_path / "out").out
    again = build(flaghoist, repo.path, tmp_path / "out", "--json")
    assert again.json["compressor"] == compress.NAME == f"cramjam {cramjam.__version__}, miniz_oxide 0.9.1"


def test_another_compressor_is_refused(
    flaghoist: Flaghoist, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cramjam, "__version__", "2.15.0")
    ran = build(flaghoist, repo.path, tmp_path / "out")
    assert (ran.code, ran.err) == (
        3,
        "flaghoist: cramjam 2.15.0 is installed, bundles are packed by 2.14.0 so that they are the same everywhere; "
        "install cramjam==2.14.0\n",
    )
    assert not (tmp_path / "out").exists()
