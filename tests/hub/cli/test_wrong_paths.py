"""Whatever stands where a file or folder was meant: one line, exit code 3 or 5, and no fault of the command's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub.cli.conftest import FakeHub, Flaghoist, Repo, Signers

THINGS = {
    "nothing": "nowhere",
    "a folder": "folder",
    "random bytes": "noise",
    "an empty file": "empty",
    "deep nesting": "deep",
    "NUL bytes": "nul",
    "a huge file": "huge",
    "a path through a file": "noise/x",
    "a name too long": "x" * 300,
    "a path too long": "a/" * 3000,
    "endless zeros": "/dev/zero",
    "a device": "/dev/null",
    "a file that cannot be read": "/proc/self/mem",
}


@pytest.fixture
def there(tmp_path: Path, signers: Signers, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with good keys, a root, and every wrong thing."""
    folder = tmp_path / "there"
    (folder / "folder").mkdir(parents=True)
    (folder / "noise").write_bytes(bytes(range(255, 0, -1)) * 8)
    (folder / "empty").write_bytes(b"")
    (folder / "deep").write_bytes(b"[" * 100_000)
    (folder / "nul").write_bytes(b"{}\0")
    (folder / "huge").write_bytes(b" " * 1_500_000)
    monkeypatch.chdir(folder)
    return folder


# In each, @ is the wrong thing.
COMMANDS = [
    "keys show @",
    "root show @",
    "root publish @",
    "root init --fleet acme --root-key @ --release-key {one} --deployment-key {hub} --out r",
    "root init --fleet acme --root-key {root} --release-key @ --deployment-key {hub} --out r",
    "root init --fleet acme --root-key {root} --release-key {one} --deployment-key @ --out r",
    "root next @ --key {root}",
    "root sign @ --key {root} --previous {signed}",
    "root sign {signed} --key {root} --previous @",
    "root next {signed} --key @ --out r",
    "release build --role kiosk --fleet acme --sequence 1 --repo @",
    "release sign @ --key {root}",
    "release sign {built} --key @",
    "release verify @ --root {signed}",
    "release verify {built} --root @",
    "release publish @",
    "device list --token-file @",
]


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_path_is_one_sentence(
    flaghoist: Flaghoist, hub: FakeHub, signers: Signers, there: Path, command: str, thing: str
) -> None:
    signed, built = there / "root.1.dsse", there / "built"
    made = flaghoist(
        "root", "init", "--fleet", "acme", "--root-key", signers.key("root"), "--release-key", signers.pub("one"),
        "--deployment-key", signers.pub("hub"), "--out", signed,
    )  # fmt: skip
    assert made.code == 0
    paths = {
        "root": signers.key("root"),
        "one": signers.pub("one"),
        "hub": signers.pub("hub"),
        "signed": signed,
        "built": built,
    }
    ran = flaghoist(*(THINGS[thing] if word == "@" else word.format_map(paths) for word in command.split()))
    # 4: a file of any size may be a token, and what is too long for a header the hub refuses to read.
    assert ran.code in ((3, 4, 5) if "--token-file" in command else (3, 5)), ran.err
    assert (ran.out, ran.err.count("\n"), hub.asked()) == ("", 1, [])
    assert "fault of its own" not in ran.err


@pytest.mark.parametrize("name", ["release.msgpack", "release.dsse", "bundle.tar.gz", "checksums.json"])
@pytest.mark.parametrize("thing", ["a folder", "random bytes", "an empty file"])
def test_a_release_folder_with_a_wrong_file_is_one_sentence(
    flaghoist: Flaghoist, signers: Signers, built: Path, there: Path, name: str, thing: str
) -> None:
    root = there / "root.1.dsse"
    flaghoist(
        "root", "init", "--fleet", "acme", "--root-key", signers.key("root"), "--release-key", signers.pub("one"),
        "--deployment-key", signers.pub("hub"), "--out", root,
    )  # fmt: skip
    assert flaghoist("release", "sign", built, "--key", signers.key("one")).code == 0
    (built / name).unlink()
    (there / THINGS[thing]).rename(built / name)
    ends = [
        flaghoist("release", "sign", built, "--key", signers.key("two")),
        flaghoist("release", "verify", built, "--root", root),
    ]
    assert max(ran.code for ran in ends) in (3, 5)
    for ran in ends:
        assert ran.err.count("\n") == (1 if ran.code else 0)
        assert "fault of its own" not in ran.err


def test_a_working_folder_that_is_gone_ends_with_3(
    flaghoist: Flaghoist, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        ran = flaghoist("keys", "generate", "ci", "--no-passphrase")
        assert (ran.code, ran.out) == (3, "")
        assert ran.err.count("\n") == 1
    finally:
        os.chdir(tmp_path)


def test_a_result_survives_an_output_that_cannot_show_it(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("flaghoist")
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    command: list[str | Path] = [
        script,
        "keys",
        "generate",
        "ci",
        "--no-passphrase",
        "--out",
        tmp_path / "schlüssel",
    ]
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, check=True)
    private = Path(json.loads(done.stdout)["private"])
    assert private == tmp_path / "schlüssel/ci.key"
    private.unlink()
    private.with_suffix(".pub").unlink()
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert rb"schl\xfcssel/ci.key" in done.stdout
