"""How a build ends when something goes wrong on the way."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from hub.cli import gitrepo
from tests.hub.cli.conftest import (
    Flaghoist,
    Repo,
)
from tests.hub.cli.test_build import build, release_of


def _lose(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-200_000])


@pytest.mark.parametrize("damage", [pytest.param(_lose, id="lost"), pytest.param(_cut, id="cut-short")])
def test_a_damaged_clone_is_named(
    flaghoist: Flaghoist, repo: Repo, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    repo.commit({"roles/kiosk/files/data": random.Random(1).randbytes(600_000).hex()})
    oid = repo.git("rev-parse", "HEAD:roles/kiosk/files/data")
    damage(repo.path / ".git/objects" / oid[:2] / oid[2:])
    ran = build(flaghoist, repo.path, tmp_path / "out")
    assert (ran.code, ran.err) == (
        3,
        f"flaghoist: git cannot read files/data of {repo.path}; "
        "the clone is damaged or partial, so clone it again\n",
    )


def test_a_local_replacement_does_not_change_what_a_commit_means(
    flaghoist: Flaghoist, repo: Repo, built: Path, tmp_path: Path
) -> None:
    oid = repo.git("rev-parse", "HEAD:roles/kiosk/files/app.py")
    other = repo.git("hash-object", "-w", "--stdin", stdin="print('bad')\n")
    repo.git("replace", oid, other)
    again = build(flaghoist, repo.path, tmp_path / "again", "--json")
    assert Path(again.json["folder"], "bundle.tar.gz").read_bytes() == (built / "bundle.tar.gz").read_bytes()


def test_the_json_of_a_build_is_the_whole_release(
    built: Path, flaghoist: Flaghoist, repo: Repo, tmp_path: Path
) -> None:
    ran = build(flaghoist, repo.path, tmp_path / "out", "--json")
    assert ran.json["release"] == msgspec.to_builtins(release_of(built))
    assert gitrepo.Repository(repo.path).commit("HEAD").oid == ran.json["release"]["commit"]
