"""The example fleet repository: both roles build, and the kiosk really runs, well and badly."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from hub.deployment.policy import Policy
from tests.hub.cli.conftest import Flaghoist, Repo
from tests.support.ports import held_port

EXAMPLE = Path(__file__).parents[3] / "docs/examples/fleet-repo"


@pytest.fixture
def fleet(tmp_path: Path) -> Repo:
    """The example as its README has it: copied, made a repository, committed."""
    repo = Repo(tmp_path / "fleet")
    shutil.copytree(EXAMPLE, repo.path, dirs_exist_ok=True)
    repo.git("add", ".")
    repo.record("Open the kiosk")
    return repo


def unpacked(flaghoist: Flaghoist, fleet: Repo, role: str, sequence: int, out: Path) -> Path:
    """Build a release and lay it out as a device does."""
    ran = flaghoist(
        "release", "build", "--role", role, "--repo", fleet.path, "--fleet", "acme", "--sequence", sequence,
        "--out", out, "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    target = out / "device" / str(ran.json["id"])
    with tarfile.open(Path(ran.json["folder"], "bundle.tar.gz")) as archive:
        archive.extractall(target, filter="data")
    return target


def environment(release: str, port: int) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "FLAGHOIST_RELEASE_ID": release, "PORT": str(port)}


@contextmanager
def running(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the release's command as the exec hook does: in its folder, with the device's environment."""
    command = json.loads((folder / "bundle.json").read_text())["exec"]["command"]
    assert command[0] == "python3"
    with subprocess.Popen(
        [sys.executable, *command[1:]],
        cwd=folder,
        env=environment(folder.name, port),
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                code = process.wait(10)
            finally:
                process.kill()
            assert code == 0, "SIGTERM ends the service cleanly"


def get(port: int, path: str) -> tuple[int, str]:
    end = time.monotonic() + 20
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except ConnectionError:
            assert time.monotonic() < end, "the kiosk never listened"
            time.sleep(0.05)
        finally:
            connection.close()


def validate(folder: Path, release: str, port: int) -> tuple[int, str]:
    done = subprocess.run(
        [folder / "validate/10-health"],
        cwd=folder, env=environment(release, port), capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    return done.returncode, done.stderr.strip()


def change(fleet: Repo, name: str, old: str, new: str) -> None:
    path = fleet.path / "roles/kiosk" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_good_release_sells_and_passes_its_own_check(
    flaghoist: Flaghoist, fleet: Repo, tmp_path: Path
) -> None:
    folder, port = unpacked(flaghoist, fleet, "kiosk", 1, tmp_path / "out"), held_port()
    with running(folder, port):
        status, text = get(port, "/health")
        assert (status, json.loads(text)) == (
            200,
            {"status": "ok", "release": folder.name, "version": "1.0.0", "prices": 3},
        )
        status, page = get(port, "/")
        assert status == 200
        assert "espresso<td>2.20 EUR" in page
        assert get(port, "/nowhere")[0] == 404
        assert validate(folder, folder.name, port) == (0, "")


def test_the_bad_release_runs_and_fails_its_own_check(
    flaghoist: Flaghoist, fleet: Repo, tmp_path: Path
) -> None:
    """As the README makes it: a price list that nobody committed."""
    change(fleet, "files/settings.json", "prices.json", "prices-winter.json")
    change(fleet, "bundle.json", "1.0.0", "1.2.0")
    fleet.git("commit", "-qam", "Winter prices")
    folder, port = unpacked(flaghoist, fleet, "kiosk", 2, tmp_path / "out"), held_port()
    with running(folder, port) as process:
        status, text = get(port, "/health")
        assert (status, json.loads(text)["status"]) == (503, "failing")
        assert get(port, "/") == (503, "Closed: prices-winter.json is missing.")
        assert validate(folder, folder.name, port) == (
            1,
            "the kiosk is not well (503): prices-winter.json is missing",
        )
        assert process.poll() is None, "only its health tells, the process stays up"


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        pytest.param("files/prices.json", "2.2", '"2,2"', "prices.json has no price, or a wrong one", id="text"),
        pytest.param("files/prices.json", "2.2", "-1", "prices.json has no price, or a wrong one", id="negative"),
        pytest.param("files/prices.json", "{", "", "prices.json is not JSON", id="broken-json"),
        pytest.param("files/settings.json", "{", "[", "settings.json is not JSON", id="broken-settings"),
    ],
)  # fmt: skip
def test_other_mistakes_in_the_data_are_found_by_health(
    flaghoist: Flaghoist, fleet: Repo, tmp_path: Path, name: str, old: str, new: str, problem: str
) -> None:
    change(fleet, name, old, new)
    fleet.git("commit", "-qam", "A mistake")
    folder, port = unpacked(flaghoist, fleet, "kiosk", 2, tmp_path / "out"), held_port()
    with running(folder, port):
        status, text = get(port, "/health")
        assert (status, json.loads(text)["problem"]) == (503, problem)


def test_the_check_fails_when_another_release_answers(
    flaghoist: Flaghoist, fleet: Repo, tmp_path: Path
) -> None:
    folder, port = unpacked(flaghoist, fleet, "kiosk", 1, tmp_path / "out"), held_port()
    with running(folder, port):
        get(port, "/health")
        code, said = validate(folder, "kiosk-2-ffffffffffff", port)
    assert (code, said) == (
        1,
        f"the kiosk on port {port} runs release '{folder.name}', not 'kiosk-2-ffffffffffff'",
    )


def test_the_check_fails_when_nothing_answers(flaghoist: Flaghoist, fleet: Repo, tmp_path: Path) -> None:
    folder, port = unpacked(flaghoist, fleet, "kiosk", 1, tmp_path / "out"), held_port()
    script = folder / "validate/10-health"
    script.write_text(script.read_text().replace("DEADLINE = 5.0", "DEADLINE = 0.2"))
    code, said = validate(folder, folder.name, port)
    assert code == 1
    assert said.startswith(f"nothing answers on port {port}: ")


def test_without_a_port_the_service_says_what_to_do(
    flaghoist: Flaghoist, fleet: Repo, tmp_path: Path
) -> None:
    folder = unpacked(flaghoist, fleet, "kiosk", 1, tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "files/kiosk.py"], cwd=folder, capture_output=True, text=True, env={}
    )
    assert (done.returncode, done.stderr) == (
        1,
        "PORT is not set; write PORT=8081 into the device's device.env\n",
    )


def test_the_gateway_builds_with_its_images_pinned(flaghoist: Flaghoist, fleet: Repo, tmp_path: Path) -> None:
    folder = unpacked(flaghoist, fleet, "gateway", 1, tmp_path / "out")
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "bundle.json", "compose.yaml", "env/gateway.env.tmpl", "files/meters.json", "validate/10-collector",
    ]  # fmt: skip
    assert (folder / "compose.yaml").read_text().count("@sha256:") == 2


@pytest.mark.parametrize("role", ["kiosk", "gateway"])
def test_the_policies_are_ones_that_the_hub_takes(role: str) -> None:
    policy = msgspec.json.decode((EXAMPLE / "roles" / role / "rollout.json").read_bytes(), type=Policy)
    assert policy.unknown_segments() == []
