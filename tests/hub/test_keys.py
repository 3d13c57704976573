"""Key files: what is written, and every way in which a file is refused."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from hub.errors import SetupError
from hub.identity import keys
from topics.envelope import key_id

KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(32))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Path]:
    return keys.save(tmp_path / "keys", "release", KEY)


def test_a_saved_key_loads_as_the_same_key(saved: tuple[Path, Path]) -> None:
    private, public = saved
    assert bytes(keys.load_private(private)) == bytes(KEY)
    half = keys.load_public(public)
    assert (half.name, half.raw, half.keyid) == (
        "release",
        bytes(KEY.verify_key),
        key_id(bytes(KEY.verify_key)),
    )


def test_generate_uses_the_randomness_it_is_given() -> None:
    assert bytes(keys.generate(lambda size: b"\x07" * size)) == b"\x07" * 32
    assert bytes(keys.generate()) != bytes(keys.generate())


def test_files_hold_the_published_fields_and_only_the_owner_reads_the_private_one(
    saved: tuple[Path, Path],
) -> None:
    private, public = saved
    whole, half = json.loads(private.read_text()), json.loads(public.read_text())
    assert set(whole) == {"format", "name", "keyid", "public_key", "secret_key"}
    assert set(half) == {"format", "name", "keyid", "public_key"}
    assert whole["secret_key"] == bytes(KEY).hex()
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644
    assert stat.S_IMODE(private.parent.stat().st_mode) & 0o077 == 0
    assert sorted(path.name for path in private.parent.iterdir()) == ["release.key", "release.pub"]


def test_a_wide_open_umask_does_not_open_the_private_key(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private, _ = keys.save(tmp_path, "release", KEY)
    finally:
        os.umask(before)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600


def test_an_existing_key_is_never_overwritten(saved: tuple[Path, Path]) -> None:
    private, public = saved
    before = private.read_bytes(), public.read_bytes()
    with pytest.raises(SetupError, match=r"release\.key already exists; choose another name"):
        keys.save(private.parent, "release", OTHER)
    private.unlink()
    with pytest.raises(SetupError, match=r"release\.pub already exists"):
        keys.save(private.parent, "release", OTHER)
    assert not private.exists()
    assert public.read_bytes() == before[1]


@pytest.mark.parametrize("name", ["", "../root", "a/b", ".hidden", "-x", "ä", "a" * 65, "a\n"])
def test_a_name_that_could_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SetupError, match="cannot name a key"):
        keys.save(tmp_path, name, KEY)
    assert not any(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match=r"cannot write the key into .*/file/keys \(Not a directory\)"):
        keys.save(tmp_path / "file" / "keys", "release", KEY)


def _edited(**changes: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        content = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return edit


def _replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BOTH = [
    pytest.param(lambda path: path.unlink(), "does not exist; `flaghoist keys generate` makes", id="missing"),
    pytest.param(lambda path: path.write_bytes(b""), "is not a (private|public) key file", id="empty"),
    pytest.param(lambda path: path.write_bytes(bytes(400)), "is not a (private|public) key file", id="zeros"),
    pytest.param(
        lambda path: path.write_bytes(b"\xff{"), "is not a (private|public) key file", id="not-text"
    ),
    pytest.param(
        lambda path: path.write_bytes(b"[" * 4000), "is not a (private|public) key file", id="deep-nesting"
    ),
    pytest.param(_edited(format=3), "is not a (private|public) key file", id="later-format"),
    pytest.param(_edited(public_key="00"), "is not a (private|public) key file", id="short-key"),
    pytest.param(_edited(keyid=None), "is not a (private|public) key file", id="no-keyid"),
    pytest.param(_replace_by_fifo, "is not a regular file", id="fifo"),
    pytest.param(_replace_by_folder, "is not a regular file", id="folder"),
]


@pytest.mark.parametrize(("spoil", "message"), BOTH)
def test_a_spoilt_file_is_refused_in_one_sentence(
    saved: tuple[Path, Path], spoil: Callable[[Path], None], message: str
) -> None:
    loaders: tuple[Callable[[Path], object], ...] = (keys.load_private, keys.load_public)
    for path, load in zip(saved, loaders, strict=True):
        spoil(path)
        with pytest.raises(SetupError, match=message) as refused:
            load(path)
        assert str(path) in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_secret_that_is_not_of_its_public_key_is_refused(saved: tuple[Path, Path]) -> None:
    _edited(secret_key=bytes(OTHER).hex())(saved[0])
    with pytest.raises(SetupError, match="holds a secret that is not of its public key"):
        keys.load_private(saved[0])


def test_a_public_file_whose_keyid_is_of_another_key_is_refused(saved: tuple[Path, Path]) -> None:
    _edited(keyid=key_id(bytes(OTHER.verify_key)))(saved[1])
    with pytest.raises(SetupError, match="has a keyid that is not of its key"):
        keys.load_public(saved[1])


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o610])
def test_a_private_key_that_others_can_touch_is_refused(saved: tuple[Path, Path], mode: int) -> None:
    saved[0].chmod(mode)
    with pytest.raises(SetupError, match=rf"can be read by others \(mode {mode:04o}\); run chmod 600"):
        keys.load_private(saved[0])


def test_the_public_half_of_a_private_file_can_be_read_and_a_public_file_signs_nothing(
    saved: tuple[Path, Path],
) -> None:
    assert keys.load_public(saved[0]) == keys.load_public(saved[1])
    with pytest.raises(SetupError, match="is not a private key file"):
        keys.load_private(saved[1])
