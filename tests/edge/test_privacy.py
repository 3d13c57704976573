"""`diagnose` names every file that others could read a secret from, or change what is trusted in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.config import Paths, Settings
from edge.diagnose import privacy
from edge.diagnose.finding import Finding

PLAIN = Settings()


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(tmp_path / "state")
    made.make()
    for name in ("identity/key.pem", "identity/cert.pem", "identity/ca.pem", "identity/device",
                 "secrets/WIFI", "rendered/kiosk-7-a/env/web.env", "device.env"):  # fmt: skip
        path = made.root / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text("x")
        path.chmod(0o644 if name.endswith(("cert.pem", "ca.pem")) else 0o600)
    return made


def look(paths: Paths, settings: Settings = PLAIN) -> Finding:
    return privacy.check(paths, settings, paths.root / "identity")


def test_files_that_are_nobody_elses_pass(paths: Paths) -> None:
    assert (look(paths).level, look(paths).detail) == ("pass", "7 files, nobody else's")


HARMS = [
    pytest.param("identity/key.pem", 0o640, "fail", "others can read", id="the key"),
    pytest.param("secrets/WIFI", 0o604, "fail", "others can read", id="a secret"),
    pytest.param("rendered/kiosk-7-a/env/web.env", 0o644, "warn", "others can read", id="a filled template"),
    pytest.param("device.env", 0o644, "warn", "others can read", id="variables"),
    pytest.param("identity/cert.pem", 0o664, "warn", "others can change", id="the certificate"),
    pytest.param("identity/ca.pem", 0o646, "warn", "others can change", id="the hub's CA"),
]


@pytest.mark.parametrize(("name", "mode", "level", "words"), HARMS)
def test_what_others_can_get_at_is_named(paths: Paths, name: str, mode: int, level: str, words: str) -> None:
    (paths.root / name).chmod(mode)
    found = look(paths)
    assert (found.level, f"{words} {paths.root / name}" in found.detail) == (level, True), found
    paths.root.chmod(0o755)
    assert look(paths).level == "fail", "and nothing keeps them out"


def linked(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        pytest.param(linked, "is no regular file", id="a link"),
        pytest.param(
            lambda path: os.chown(path, 12345, 12345),
            "belongs to another user",
            id="another user's",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away"),
        ),
    ],
)
def test_a_secret_that_the_agent_would_refuse_fails(
    paths: Paths, harm: Callable[[Path], object], words: str
) -> None:
    harm(paths.root / "secrets/WIFI")
    assert (look(paths).level, f"{paths.root / 'secrets/WIFI'} {words}" in look(paths).detail) == (
        "fail",
        True,
    )


def test_secrets_are_looked_for_where_the_settings_say(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "PIN").touch()
    (tmp_path / "elsewhere" / "PIN").chmod(0o644)
    found = look(paths, Settings(secrets_dir=str(tmp_path / "elsewhere")))
    assert f"others can read {tmp_path / 'elsewhere/PIN'}" in found.detail


def test_what_is_not_there_is_the_business_of_other_checks(paths: Paths) -> None:
    for name in ("identity/cert.pem", "device.env"):
        (paths.root / name).unlink()
    assert look(paths).detail == "5 files, nobody else's"


def test_many_are_counted(paths: Paths) -> None:
    for number in range(5):
        (paths.root / "secrets" / f"S{number}").touch()
        (paths.root / "secrets" / f"S{number}").chmod(0o644)
    assert look(paths).detail.endswith(", and 2 more")
