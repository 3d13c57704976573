"""`flaghoist-hub up` where the machine is not ready: one sentence, exit code 3, no traceback."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.broker import mosquitto
from hub.broker.config import BrokerSettings
from hub.errors import SetupError
from hub.store import SqliteStore

HUB = Path(sys.executable).parent / "flaghoist-hub"


def up(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    defaults = ["--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"]
    return subprocess.run(
        [HUB, "up", "--data", data, *defaults, *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def newer(data: Path) -> None:
    data.mkdir()
    SqliteStore(data / "hub.db").close()
    with sqlite3.connect(data / "hub.db") as database:
        database.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('flaghoist','m9','')"
        )
    database.close()


def another_fleet(data: Path) -> None:
    data.mkdir()
    store = SqliteStore(data / "hub.db")
    with store.write() as tx:
        tx.execute("INSERT INTO meta (key, value) VALUES ('fleet', 'ships')")
    store.close()


def open_key(data: Path) -> None:
    assert up(data, "--mqtt", "nowhere:0").returncode == 3  # makes the keys, then fails on the address
    (data / "keys" / "deployment.key").chmod(0o644)


def a_file(data: Path) -> None:
    data.write_text("")


def made(data: Path) -> None:
    assert (
        up(data, "--mqtt", "nowhere:0").returncode == 3
    )  # makes store, token and keys, then fails on the address


def open_token(data: Path) -> None:
    made(data)
    (data / "admin.token").chmod(0o644)


def empty_token(data: Path) -> None:
    made(data)
    (data / "admin.token").write_text("")


def garbled_token(data: Path) -> None:
    made(data)
    (data / "admin.token").write_bytes(b"\xff\xfe" * 20)


def token_folder(data: Path) -> None:
    made(data)
    (data / "admin.token").unlink()
    (data / "admin.token").mkdir()


def artifacts_file(data: Path) -> None:
    data.mkdir()
    (data / "artifacts").write_text("")


@pytest.mark.parametrize(
    ("prepare", "words", "says"),
    [
        pytest.param(newer, (), "newer version of Flaghoist", id="a data directory of a newer version"),
        pytest.param(a_file, (), "cannot be written", id="a data directory that is a file"),
        pytest.param(
            another_fleet, (), "belongs to the fleet 'ships'", id="a data directory of another fleet"
        ),
        pytest.param(open_key, (), "deployment.key", id="a key that others can read"),
        pytest.param(open_token, (), "admin.token can be read by others", id="a token that others can read"),
        pytest.param(empty_token, (), "holds no token", id="an empty token"),
        pytest.param(garbled_token, (), "holds no token", id="a token that is no text"),
        pytest.param(token_folder, (), "admin.token", id="a folder in the token's place"),
        pytest.param(artifacts_file, (), "artifacts", id="a file in the place of a folder"),
        pytest.param(
            None, ("--public-http", "ftp://x y"), "is not a URL", id="a URL that devices cannot call"
        ),
        pytest.param(
            None, ("--public-mqtt", "a:b:c"), "is not an address", id="a public address that is none"
        ),
        pytest.param(None, ("--data", ""), "--data must name", id="an empty data directory"),
        pytest.param(None, ("--http", "8080"), "is not an address", id="an address without a host"),
        pytest.param(None, ("--http", "127.0.0.1:99999"), "is not an address", id="a port beyond all ports"),
        pytest.param(
            None, ("--http", "192.0.2.1:8080"), "cannot be listened on", id="a host that is not ours"
        ),
        pytest.param(None, ("--fleet", "My Fleet"), "is not a fleet name", id="a fleet name with a space"),
    ],
)
def test_a_machine_that_is_not_ready_is_told_in_one_sentence(
    tmp_path: Path, prepare: Callable[[Path], None] | None, words: tuple[str, ...], says: str
) -> None:
    data = tmp_path / "hub"
    if prepare:
        prepare(data)
    done = up(data, *words)
    assert done.returncode == 3, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1 and lines[0].startswith("flaghoist-hub: ") and says in lines[0]


def test_what_the_hub_keeps_is_its_own_though_the_folder_is_open(tmp_path: Path) -> None:
    data = tmp_path / "hub"
    data.mkdir(mode=0o755)
    made(data)
    for path in (data / "hub.db", data / "admin.token", data / "keys" / "deployment.key"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("option", ["--http", "--mqtt"])
def test_a_port_in_use_is_named(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = up(tmp_path / "hub", option, f"127.0.0.1:{port}")
    assert done.returncode == 3
    assert str(port) in done.stderr and "Traceback" not in done.stderr


def test_a_missing_mosquitto_is_named_with_the_package_to_install(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="apt install mosquitto"):
        mosquitto.command(BrokerSettings(folder=tmp_path, fleet="demo", program="no-such-broker"))


def test_wrong_usage_ends_with_2() -> None:
    done = subprocess.run([HUB, "up"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2 and "--data" in done.stderr
