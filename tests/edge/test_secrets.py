"""Secrets of a device: where they are looked for, which files are fit to be one, and where values never show."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.config import Paths, Settings
from edge.errors import Stop
from edge.updating import secrets, templates
from edge.updating.secrets import Secrets
from edge.updating.templates import Values
from edge.updating.update import Updater
from tests.edge.world import QUICK, Box, Source, build
from topics import codec
from topics.documents import Release
from topics.messages import UpdateResult

VALUE = "correct horse battery"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "secrets"
    made.mkdir()
    return made


def put(folder: Path, name: str, data: bytes, mode: int = 0o600) -> Path:
    path = folder / name
    path.write_bytes(data)
    path.chmod(mode)
    return path


def link(folder: Path) -> None:
    put(folder, "elsewhere", b"x")
    (folder / "KEY").symlink_to("elsewhere")


FILES: list[tuple[str, Callable[[Path], Any], str, str]] = [
    ("as written", lambda at: put(at, "KEY", b"s3cret"), "s3cret", ""),
    ("newline at the end", lambda at: put(at, "KEY", b"s3cret\n"), "s3cret", ""),
    ("empty", lambda at: put(at, "KEY", b""), "", ""),
    ("read only", lambda at: put(at, "KEY", b"s3cret", 0o400), "s3cret", ""),
    (
        "group may read",
        lambda at: put(at, "KEY", b"s3cret", 0o640),
        "",
        "can be read by others; run chmod 600",
    ),
    (
        "others may read",
        lambda at: put(at, "KEY", b"s3cret", 0o604),
        "",
        "can be read by others; run chmod 600",
    ),
    ("two lines", lambda at: put(at, "KEY", b"one\ntwo\n"), "", "is not one line of at most"),
    ("NUL", lambda at: put(at, "KEY", b"a\0b"), "", "is not one line of at most"),
    ("too long", lambda at: put(at, "KEY", b"x" * (secrets.MAX_BYTES + 1)), "", "is not one line of at most"),
    ("not text", lambda at: put(at, "KEY", b"\xff\xfe"), "", "is not text"),
    ("folder", lambda at: (at / "KEY").mkdir(), "", "is not a regular file"),
    ("pipe", lambda at: os.mkfifo(at / "KEY", 0o600), "", "is not a regular file"),
    ("link", link, "", "cannot be read"),
    ("another's", lambda at: os.chown(put(at, "KEY", b"s3cret"), 65534, -1), "", "belongs to another user"),
]


@pytest.mark.parametrize(("make", "value", "reason"), [pytest.param(*row[1:], id=row[0]) for row in FILES])
def test_which_files_are_fit(folder: Path, make: Callable[[Path], Any], value: str, reason: str) -> None:
    make(folder)
    known = Secrets(((folder, 0o077),))
    if not reason:
        assert known.get("KEY") == value
        return
    with pytest.raises(Stop, match=reason) as stop:
        known.get("KEY")
    assert "s3cret" not in str(stop.value) and "KEY" in str(stop.value)


@pytest.mark.parametrize("name", ["NONE", "../KEY", "", ".hidden", "KEY/x"])
def test_what_names_no_file_is_no_secret(folder: Path, name: str) -> None:
    put(folder, "KEY", b"x")
    put(folder.parent, "KEY", b"x")
    assert Secrets(((folder, 0o077),)).get(name) is None


def test_where_they_are_looked_for(tmp_path: Path) -> None:
    """The device's own folder, or the one that the settings name, and then systemd's credentials."""
    own, named, given = tmp_path / "secrets", tmp_path / "named", tmp_path / "credentials"
    for place in (own, named, given):
        place.mkdir()
        put(place, "KEY", place.name.encode())
    # systemd's files have the mask of an access list as group bits.
    put(given, "GIVEN", b"by systemd", 0o440)
    environ = {"CREDENTIALS_DIRECTORY": str(given)}
    paths = Paths(tmp_path)
    assert secrets.of(paths, QUICK, {}).get("KEY") == "secrets"
    assert secrets.of(paths, QUICK, {}).get("GIVEN") is None
    assert secrets.of(paths, QUICK, environ).get("KEY") == "secrets"
    assert secrets.of(paths, QUICK, environ).get("GIVEN") == "by systemd"
    assert secrets.of(paths, Settings(secrets_dir=str(named)), environ).get("KEY") == "named"
    (own / "KEY").unlink()
    assert secrets.of(paths, QUICK, environ).get("KEY") == "credentials"


NAMED = [
    pytest.param("${FLAGHOIST_DEVICE_ID}", "shop-12", id="a fact"),
    pytest.param("${PORT}", "8081", id="device.env"),
    pytest.param("${KEY}", "s3cret", id="a secret"),
    pytest.param("${BOTH}", "secret", id="the secret of two"),
]


@pytest.mark.parametrize(("named", "value"), NAMED)
def test_what_a_template_may_name(folder: Path, named: str, value: str) -> None:
    for name, text in (("KEY", b"s3cret"), ("BOTH", b"secret"), ("FLAGHOIST_DEVICE_ID", b"another")):
        put(folder, name, text)
    variables = {"PORT": "8081", "BOTH": "open", "FLAGHOIST_DEVICE_ID": "another"}
    values = Values({"FLAGHOIST_DEVICE_ID": "shop-12"}, Secrets(((folder, 0o077),)), variables)
    paths = Paths(folder.parent / "state")
    paths.make()
    (folder.parent / "release/env").mkdir(parents=True)
    (folder.parent / "release/env/app.env.tmpl").write_text(f"A={named}\n")
    templates.render(paths, "kiosk-8-b", folder.parent / "release", values)
    filled = paths.rendered("kiosk-8-b") / "env/app.env"
    assert filled.read_text() == f"A={value}\n"
    assert filled.stat().st_mode & 0o777 == 0o600
    assert filled.parent.stat().st_mode & 0o777 == 0o700


def test_what_was_filled_in_stays_when_it_cannot_be_filled_in_anew(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "state")
    paths.make()
    (tmp_path / "release/env").mkdir(parents=True)
    (tmp_path / "release/env/app.env.tmpl").write_text("A=${A}\n")
    templates.render(paths, "kiosk-8-b", tmp_path / "release", {"A": "1"})
    with pytest.raises(
        Stop, match=r"env/app\.env\.tmpl needs A, which neither device\.env nor a secret sets"
    ):
        templates.render(paths, "kiosk-8-b", tmp_path / "release", {})
    assert (paths.rendered("kiosk-8-b") / "env/app.env").read_text() == "A=1\n"


MASKED = [
    pytest.param("dial db: correct horse battery refused", "dial db: *** refused", id="value"),
    pytest.param("correct horse battery staple", "***", id="the longer of two"),
    pytest.param("a pin of 123", "a pin of 123", id="too short to be told from other text"),
    pytest.param("nothing", "nothing", id="none"),
]


@pytest.mark.parametrize(("text", "shown"), MASKED)
def test_values_are_masked(folder: Path, text: str, shown: str) -> None:
    put(folder, "KEY", VALUE.encode())
    put(folder, "LONGER", b"correct horse battery staple\n", 0o644)
    put(folder, "PIN", b"123")
    put(folder, "BAD", b"\xff")
    assert Secrets(((folder, 0o077),)).masked(text) == shown


@pytest.fixture
def secretive(box: Box) -> Box:
    place = box.paths.root / "secrets"
    place.mkdir()
    put(place, "DB_KEY", VALUE.encode())
    return box


def telling(sequence: int, **files: bytes) -> Any:
    return build(sequence, {"env/app.env.tmpl": b"KEY=${DB_KEY}\nID=${FLAGHOIST_DEVICE_ID}\n", **files})


def test_a_release_gets_its_secrets(secretive: Box) -> None:
    release = telling(7)
    secretive.offer(release)
    filled = secretive.paths.rendered(release.id) / "env/app.env"
    assert filled.read_text() == f"KEY={VALUE}\nID=shop-12\n"


def test_a_missing_secret_refuses_by_name(box: Box) -> None:
    box.offer(telling(7))
    update = box.state.update
    assert update is not None and update.state == "failed"
    assert update.reason == "env/app.env.tmpl needs DB_KEY, which neither device.env nor a secret sets"
    assert box.state.failed == [], "the device may get it later"


def test_what_a_hook_prints_of_a_secret_reaches_no_report(secretive: Box, source: Source) -> None:
    hook = f'#!/bin/sh\n[ "$1" != activate ] || {{ echo "cannot log in with {VALUE}" >&2; exit 1; }}\n'
    secretive.hook("fake", hook)
    secretive.offer(telling(7))
    report = codec.decode(secretive.spool.reports[-1].body, UpdateResult, limit=65536)
    assert (report.state, report.reason) == ("rolled_back", "cannot log in with ***")
    everything = b"".join(body for _, body in secretive.link.sent) + secretive.paths.state.read_bytes()
    assert VALUE.encode() not in everything


def test_a_hook_is_not_given_secrets_that_no_template_asked_for(secretive: Box) -> None:
    secretive.hook("fake", '#!/bin/sh\nenv > "$FLAGHOIST_STATE_DIR/seen"\n')
    secretive.offer(build(7))
    assert VALUE not in (secretive.paths.root / "seen").read_text()


def test_a_secret_that_changed_counts_from_the_next_start_on(secretive: Box) -> None:
    release = telling(7)
    secretive.offer(release)
    filled = secretive.paths.rendered(release.id) / "env/app.env"
    put(secretive.paths.root / "secrets", "DB_KEY", b"another key")
    secretive.agent.check_now()
    secretive.settle()
    assert VALUE in filled.read_text(), "what runs is left alone"
    (secretive.paths.root / "fail-probe").touch()
    secretive.agent.check_now()
    secretive.settle()
    assert "another key" in filled.read_text(), "it was started anew"


def test_a_secret_that_changed_between_staging_and_activation_is_taken(
    secretive: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = telling(7)
    look = f'grep -q "another key" "$FLAGHOIST_STATE_DIR/rendered/{release.id}/env/app.env"'
    secretive.hook("fake", f'#!/bin/sh\n[ "$1" != install ] || {look}\n')
    ask = Updater._ask_again

    def change(self: Updater, wanted: Release) -> None:
        ask(self, wanted)
        put(secretive.paths.root / "secrets", "DB_KEY", b"another key")

    monkeypatch.setattr(Updater, "_ask_again", change)
    secretive.offer(release)
    assert secretive.state.running_id == release.id


def test_the_release_before_is_put_back_with_what_it_had_when_its_secret_is_gone(secretive: Box) -> None:
    old = telling(7)
    secretive.offer(old)
    (secretive.paths.root / "secrets" / "DB_KEY").unlink()
    secretive.offer(build(8, {"files/fail-probe": b""}))
    assert secretive.state.running_id == old.id
    update = secretive.state.update
    assert update is not None and (update.state, update.reason) == ("rolled_back", "probe: no probe today")
    assert VALUE in (secretive.paths.rendered(old.id) / "env/app.env").read_text()
