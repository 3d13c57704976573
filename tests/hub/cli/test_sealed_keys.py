"""Keys at rest: sealed with a passphrase, opened from a file, the environment or a terminal, and refused otherwise."""

from __future__ import annotations

import json
import os
import pty
import sys
from pathlib import Path

import pytest

from hub.identity import keys, sealing
from tests.hub.cli.conftest import Flaghoist, Signers

WORDS = "four words of mine"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a guess costs is no matter of these tests."""
    for function in (keys.save, keys.encrypt):
        defaults = function.__kwdefaults__
        assert defaults is not None and defaults["cost"] == sealing.MODERATE
        monkeypatch.setitem(defaults, "cost", sealing.CHEAPEST)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_text(WORDS + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def sealed(flaghoist: Flaghoist, words: Path, tmp_path: Path) -> Path:
    ran = flaghoist(
        "keys", "generate", "one", "--out", tmp_path / "own", "--passphrase-file", words, "--json"
    )
    assert (ran.code, ran.json["sealed"]) == (0, True), ran.err
    return Path(ran.json["private"])


def sign(flaghoist: Flaghoist, built: Path, key: Path, *more: object) -> tuple[int, str]:
    ran = flaghoist("release", "sign", built, "--key", key, *more)
    return ran.code, ran.err


def test_the_seed_is_not_in_the_file_and_the_file_says_what_a_guess_costs(sealed: Path, words: Path) -> None:
    whole = json.loads(sealed.read_text())
    assert set(whole) == {"format", "name", "keyid", "public_key", "sealed"}
    assert set(whole["sealed"]) == {"kdf", "salt", "box", "ops", "memory"}
    seed = bytes(keys.load_private(sealed, WORDS)).hex()
    assert seed not in sealed.read_text()
    assert sealed.stat().st_mode & 0o777 == 0o600


def test_the_cost_of_a_new_key_is_libsodiums_for_keys_that_people_use() -> None:
    assert (sealing.MODERATE.ops, sealing.MODERATE.memory) == (3, 256 * 1024 * 1024)


def test_a_sealed_key_signs_with_the_passphrase_of_a_file_or_the_environment(
    flaghoist: Flaghoist, built: Path, sealed: Path, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sign(flaghoist, built, sealed, "--passphrase-file", words) == (0, "")
    (built / "release.dsse").unlink()
    monkeypatch.setenv("FLAGHOIST_PASSPHRASE", WORDS)
    assert sign(flaghoist, built, sealed) == (0, "")


def test_a_terminal_is_asked(
    flaghoist: Flaghoist, built: Path, sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = pty.openpty()
    try:
        with os.fdopen(slave, "r", closefd=False) as terminal:
            monkeypatch.setattr(sys, "stdin", terminal)
            monkeypatch.setattr("click.termui.hidden_prompt_func", lambda _: WORDS)
            code, _ = sign(flaghoist, built, sealed)
    finally:
        os.close(master)
        os.close(slave)
    assert code == 0


@pytest.mark.parametrize(
    ("words_", "mode", "message"),
    [
        pytest.param(
            None, 0o600, "{key} is sealed with a passphrase; give it with --passphrase-file or FLAGHOIST_PASSPHRASE",
            id="none",
        ),
        pytest.param(
            b"other words", 0o600, "the passphrase does not open {key}; give the one it was sealed with", id="another"
        ),
        pytest.param(
            WORDS.encode(), 0o640, "{file} can be read by others (mode 0640); run chmod 600 {file}", id="open-to-others"
        ),
        pytest.param(
            b"\xff\xfe", 0o600, "{file} is not UTF-8 text; give a file that holds a passphrase", id="no-text"
        ),
    ],
)  # fmt: skip
def test_a_key_stays_closed_without_its_passphrase(
    flaghoist: Flaghoist,
    built: Path,
    sealed: Path,
    tmp_path: Path,
    words_: bytes | None,
    mode: int,
    message: str,
) -> None:
    more: list[object] = []
    file = tmp_path / "given"
    if words_ is not None:
        file.write_bytes(words_)
        file.chmod(mode)
        more = ["--passphrase-file", file]
    assert sign(flaghoist, built, sealed, *more) == (
        3,
        f"flaghoist: {message.format(key=sealed, file=file)}\n",
    )
    assert not (built / "release.dsse").exists()


def test_letters_that_two_systems_write_in_two_ways_are_one_passphrase() -> None:
    sealed = sealing.seal(bytes(32), "schlüsselwörter", sealing.CHEAPEST, os.urandom)
    assert sealing.unseal(sealed, "schlüsselwörter".replace("ü", "u\u0308").replace("ö", "o\u0308")) == bytes(
        32
    )


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"box": "0" * 144}, id="other-box"),
        pytest.param({"memory": 2**40}, id="memory-without-end"),
        pytest.param({"ops": 10_000}, id="passes-without-end"),
        pytest.param({"kdf": "md5"}, id="another-kdf"),
        pytest.param({"salt": "00"}, id="short-salt"),
    ],
)
def test_a_changed_file_is_refused_at_once(
    flaghoist: Flaghoist, built: Path, sealed: Path, words: Path, change: dict[str, object]
) -> None:
    whole = json.loads(sealed.read_text())
    whole["sealed"] |= change
    sealed.write_text(json.dumps(whole))
    code, err = sign(flaghoist, built, sealed, "--passphrase-file", words)
    assert (code, err.count("\n")) == (3, 1)


def test_a_plain_key_is_sealed_and_stays_the_same_key(
    flaghoist: Flaghoist, built: Path, signers: Signers, words: Path
) -> None:
    key = signers.key("one")
    seed = bytes(keys.load_private(key))
    ran = flaghoist("keys", "encrypt", key, "--passphrase-file", words, "--json")
    assert (ran.code, ran.json["sealed"]) == (0, True), ran.err
    assert seed.hex() not in key.read_text()
    assert bytes(keys.load_private(key, WORDS)) == seed
    assert flaghoist("keys", "show", key, "--json").json["keyid"] == ran.json["keyid"]
    assert sign(flaghoist, built, key, "--passphrase-file", words) == (0, "")
    again = flaghoist("keys", "encrypt", key, "--passphrase-file", words)
    assert (again.code, again.err) == (
        1,
        f"flaghoist: {key} is sealed already; make a new key if its passphrase has become known\n",
    )


@pytest.mark.parametrize(
    ("passphrase", "code", "message"),
    [
        pytest.param(
            None, 2, "no passphrase is given; set FLAGHOIST_PASSPHRASE or give --passphrase-file "
            "(--no-passphrase makes a key that whoever reads the file can use) (see `flaghoist keys generate --help`)",
            id="none",
        ),
        pytest.param(
            "short", 3, "the passphrase has 5 characters; use 12 at least, several words for instance", id="short"
        ),
    ],
)  # fmt: skip
def test_no_key_is_made_without_a_good_passphrase(
    flaghoist: Flaghoist,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    passphrase: str | None,
    code: int,
    message: str,
) -> None:
    if passphrase is not None:
        monkeypatch.setenv("FLAGHOIST_PASSPHRASE", passphrase)
    ran = flaghoist("keys", "generate", "one", "--out", tmp_path / "own")
    assert (ran.code, ran.err) == (code, f"flaghoist: {message}\n")
    assert not (tmp_path / "own").exists()


def test_several_people_sign_offline_one_after_another(
    flaghoist: Flaghoist, built: Path, signers: Signers, tmp_path: Path, words: Path
) -> None:
    """Ada signs, hands the folder on, Bea signs with a key of her own; the root wants both."""
    for name in ("ada", "bea"):
        made = flaghoist("keys", "generate", name, "--out", tmp_path / name, "--passphrase-file", words)
        assert made.code == 0
    root = tmp_path / "root.1.dsse"
    pubs = [part for name in ("ada", "bea") for part in ("--release-key", tmp_path / name / f"{name}.pub")]
    ran = flaghoist(
        "root", "init", "--fleet", "acme", "--root-key", signers.key("root"), *pubs, "--deployment-key",
        signers.pub("hub"), "--threshold", "release=2", "--out", root,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert sign(flaghoist, built, tmp_path / "ada" / "ada.key", "--passphrase-file", words) == (0, "")
    one = flaghoist("release", "verify", built, "--root", root)
    assert one.code == 5
    assert "1 of 2 needed signatures" in one.err
    assert sign(flaghoist, built, tmp_path / "bea" / "bea.key", "--passphrase-file", words) == (0, "")
    both = flaghoist("release", "verify", built, "--root", root, "--json")
    assert (both.code, both.json["trusted"]) == (0, True)
