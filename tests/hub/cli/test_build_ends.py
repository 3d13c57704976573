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


FAULTS: dict[str, str | None] = {
    "roles/kiosk/env/app.env.tmpl": "HOME=$HOME\nAPI_TOKEN=hunter22\n",
    "roles/kiosk/validate/20-late": "exit 0\n",
}


def test_all_faults_of_a_role_are_told_at_once(flaghoist: Flaghoist, repo: Repo, tmp_path: Path) -> None:
    repo.commit(FAULTS)
    ran = build(flaghoist, repo.path, tmp_path / "out")
    assert (ran.code, ran.out) == (1, "")
    *told, last = ran.err.splitlines()
    assert [line.split(" ")[:2] for line in told] == [
        ["error:", "roles/kiosk/env/app.env.tmpl:1"],
        ["warning:", "roles/kiosk/env/app.env.tmpl:2"],
        ["error:", "roles/kiosk/validate/20-late"],
        ["error:", "roles/kiosk/validate/20-late"],
    ]
    assert last.startswith(
        "flaghoist: roles/kiosk has 3 errors, the first: roles/kiosk/env/app.env.tmpl:1 is not NAME"
    )
    as_json = build(flaghoist, repo.path, tmp_path / "out", "--json")
    assert [one["rule"] for one in as_json.json["findings"]] == [
        "template",
        "secret",
        "script_mode",
        "shebang",
    ]
    assert not any((tmp_path / "out").glob("*"))


def test_warnings_are_told_and_do_not_refuse(flaghoist: Flaghoist, repo: Repo, tmp_path: Path) -> None:
    repo.commit({"roles/kiosk/env/app.env.tmpl": "API_TOKEN=hunter22\n"})
    ran = build(flaghoist, repo.path, tmp_path / "out")
    assert (ran.code, ran.err) == (
        0,
        "warning: roles/kiosk/env/app.env.tmpl:1 looks like it holds a password or token; every device and mirror can "
        "read a bundle, so let the device's device.env give it\n",
    )
    assert "hunter22" not in ran.out + ran.err


SETTINGS = {
    "core.autocrlf": "true",
    "core.quotePath": "true",
    "core.fileMode": "false",
    "i18n.logOutputEncoding": "ISO-8859-1",
    "log.showSignature": "true",
    "log.date": "relative",
    "format.pretty": "fuller",
    "color.ui": "always",
    "core.attributesFile": "{tmp}/attributes",
    "core.abbrev": "4",
}


def test_no_setting_of_git_locale_or_day_changes_the_bytes(
    flaghoist: Flaghoist, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.commit({"roles/kiosk/files/Übersicht.txt": "größer\r\n"}, message="Größere Übersicht")
    made = []
    for machine in ("first", "second"):
        if machine == "second":
            (tmp_path / "attributes").write_text("* text eol=crlf ident filter=x\n")
            config = tmp_path / "gitconfig"
            config.write_text(
                "".join(
                    "[{}]\n{} = {}\n".format(*name.split(".", 1), value.format(tmp=tmp_path))
                    for name, value in SETTINGS.items()
                )
            )
            for name, value in (("LC_ALL", "tr_TR.ISO-8859-9"), ("LANG", "de"), ("TZ", "Asia/Kathmandu")):
                monkeypatch.setenv(name, value)
            monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
            monkeypatch.setattr("time.time", lambda: 4_000_000_000.0)
        ran = build(flaghoist, repo.path, tmp_path / machine, "--json")
        assert ran.code == 0, ran.err
        folder = Path(ran.json["folder"])
        made.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert made[0] == made[1]
    assert len(made[0]) == 4
