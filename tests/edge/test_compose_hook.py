"""The `compose` hook against a docker that only writes down how it is called: no engine runs in these tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HOOK = Path(__file__).parents[2] / "firmware_hooks" / "compose"
PINNED = "nginx@sha256:" + "a" * 64
DOCKER = """#!/bin/sh
echo "$*" >> "$FAKE/calls"
for last; do :; done
case "$*" in
  *"config --images") cat "$FAKE/images" ;;
  *"config --services") cat "$FAKE/services" ;;
  *"config --format json") cat "$FAKE/declared" ;;
  "image inspect"*) cat "$FAKE/digests" ;;
  *"ps --all --format json") cat "$FAKE/ps" ;;
  *) [ ! -e "$FAKE/fail" ] || { echo "pulling" >&2; cat "$FAKE/fail" >&2; exit 17; } ;;
esac
"""


class Bench:
    """A release and a fake docker."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fake = root / "fake"
        self.folder = root / "state" / "releases" / "kiosk-8-b"
        for folder in (self.fake, self.folder, root / "state" / "rendered" / "kiosk-8-b" / "env"):
            folder.mkdir(parents=True)
        docker = self.fake / "docker"
        docker.write_text(DOCKER)
        docker.chmod(0o755)
        (self.folder / "bundle.json").write_text("{}")
        self.says(images=PINNED, services="web", ps=json.dumps({"Service": "web", "State": "running"}))

    def says(self, **texts: str) -> None:
        for name, text in texts.items():
            (self.fake / name).write_text(text + "\n")

    def call(
        self, verb: str, previous: Path | None = None, path: str | None = None, items: Path | None = None
    ) -> tuple[int, str]:
        environment = {
            "PATH": path or f"{self.fake}:{os.environ['PATH']}",
            "FAKE": str(self.fake),
            "FLAGHOIST_RELEASE_ID": self.folder.name,
            "FLAGHOIST_RELEASE_DIR": str(self.folder),
            "FLAGHOIST_PREVIOUS_DIR": str(previous) if previous else "",
            "FLAGHOIST_STATE_DIR": str(self.root / "state"),
            "FLAGHOIST_ROLE": "kiosk",
            **({"FLAGHOIST_ITEMS": str(items)} if items else {}),
        }
        done = subprocess.run(
            [HOOK, verb], env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        return done.returncode, done.stderr.strip()

    def calls(self) -> list[str]:
        path = self.fake / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_activate_brings_the_project_up_and_waits(bench: Bench) -> None:
    assert bench.call("activate") == (0, "")
    file = bench.folder / "compose.yaml"
    assert bench.calls()[-1] == (f"compose -p flaghoist-kiosk -f {file} up --detach --remove-orphans --wait")


def test_install_pulls(bench: Bench) -> None:
    assert bench.call("install") == (0, "")
    assert bench.calls()[-1].endswith("pull --quiet")


def test_filled_env_files_are_handed_to_compose(bench: Bench) -> None:
    env = bench.root / "state" / "rendered" / "kiosk-8-b" / "env" / "web.env"
    env.write_text("PORT=1\n")
    bench.call("activate")
    assert f"--env-file {env}" in bench.calls()[-1]


@pytest.mark.parametrize("verb", ["install", "activate"])
@pytest.mark.parametrize("image", ["nginx", "nginx:1.27", "nginx@sha256:abc", "nginx:1@sha256"])
def test_an_image_without_digest_is_refused(bench: Bench, verb: str, image: str) -> None:
    bench.says(images=f"{PINNED}\n{image}")
    code, reason = bench.call(verb)
    assert (code, reason) == (1, f"compose: image {image} has no @sha256 digest")
    assert not any("up" in call or "pull" in call for call in bench.calls())


def test_a_role_may_opt_out_of_digests(bench: Bench) -> None:
    (bench.folder / "bundle.json").write_text('{"allow_unpinned_images": true}')
    bench.says(images="nginx:1.27")
    assert bench.call("activate") == (0, "")


def entry(**fields: Any) -> str:
    return json.dumps({"Service": "web", "State": "running", **fields})


PROBES = [
    pytest.param(entry(), "", id="running"),
    pytest.param(f"[{entry()}]", "", id="list of an earlier compose"),
    pytest.param(entry(Health="healthy"), "", id="healthy"),
    pytest.param(entry(Health="unhealthy"), "service web is unhealthy", id="unhealthy"),
    pytest.param(entry(State="exited", ExitCode=1), "not running: web", id="exited"),
    pytest.param(entry(State="exited", ExitCode=0), "", id="one-shot service that is done"),
    pytest.param("", "not running: web", id="nothing"),
    pytest.param(entry(State="restarting"), "not running: web", id="restarting"),
]


@pytest.mark.parametrize(("ps", "reason"), PROBES)
def test_probe(bench: Bench, ps: str, reason: str) -> None:
    bench.says(ps=ps)
    code, said = bench.call("probe")
    assert (code, said) == ((1, f"compose: {reason}") if reason else (0, ""))


def test_rollback_brings_the_release_before_up(bench: Bench) -> None:
    before = bench.folder.with_name("kiosk-7-a")
    assert bench.call("rollback", before) == (0, "")
    assert f"-f {before / 'compose.yaml'} up" in bench.calls()[-1]


@pytest.mark.parametrize("verb", ["rollback", "safe-mode"])
def test_without_a_release_before_the_project_goes_down(bench: Bench, verb: str) -> None:
    assert bench.call(verb) == (0, "")
    assert bench.calls()[-1].endswith("down --remove-orphans")


def test_dockers_last_line_is_the_reason(bench: Bench) -> None:
    bench.says(fail="no space left")
    assert bench.call("activate") == (1, "compose: no space left")


def test_a_device_without_docker_says_so(bench: Bench, tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    (empty / "env").symlink_to("/usr/bin/env")
    (empty / "python3").symlink_to(Path(sys.executable).resolve())
    assert bench.call("activate", path=str(empty))[1] == "compose: docker is not installed on this device"


OTHER = "nginx@sha256:" + "b" * 64
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
TOLD = [
    pytest.param([entry(Image=PINNED)], "", [], id="as declared"),
    pytest.param([], "", [("web", "running", "missing")], id="missing"),
    pytest.param(
        [entry(State="exited", ExitCode=137)], "", [("web", "running", "exited (137)")], id="exited"
    ),
    pytest.param([entry(State="exited", ExitCode=0)], "", [], id="one-shot that is done"),
    pytest.param([entry(Health="unhealthy")], "", [("web", "running", "unhealthy")], id="unhealthy"),
    pytest.param(
        [entry(State="restarting", ExitCode=1)], "", [("web", "running", "restarting (1)")], id="restarting"
    ),
    pytest.param([entry(Image=OTHER)], "", [("web", A, B)], id="another image"),
    pytest.param(
        [entry(Image="nginx:latest")], "", [("web", A, "nginx:latest")], id="an image that was retagged"
    ),
    pytest.param([entry(Image="sha256:0123")], PINNED, [], id="the same by its id"),
    pytest.param([entry(Image="sha256:0123")], OTHER, [("web", A, "sha256:0123")], id="another by its id"),
    pytest.param(
        [entry(), entry(State="dead")], "", [("web", "running", "dead (?)")], id="one of two replicas"
    ),
    pytest.param(
        [entry(), entry(Service="dev")], "", [("dev", "not declared", "running")], id="not declared"
    ),
]


@pytest.mark.parametrize(("ps", "digests", "told"), TOLD)
def test_what_it_tells_of_services(
    bench: Bench, tmp_path: Path, ps: list[str], digests: str, told: list[tuple[str, str, str]]
) -> None:
    bench.says(
        ps="\n".join(ps), digests=digests, declared=json.dumps({"services": {"web": {"image": PINNED}}})
    )
    items = tmp_path / "items"
    bench.call("probe", items=items)
    lines = items.read_text().splitlines() if items.exists() else []
    assert [tuple(json.loads(line).values()) for line in lines] == told


def test_an_image_without_digest_is_compared_by_its_name(bench: Bench, tmp_path: Path) -> None:
    """For roles that allow unpinned images."""
    declared = json.dumps({"services": {"web": {"image": "nginx:1.27"}}})
    bench.says(ps=entry(Image="nginx:1.26"), declared=declared)
    assert bench.call("probe", items=tmp_path / "items") == (0, ""), "it runs, and that is what probe says"
    assert json.loads((tmp_path / "items").read_text()) == {
        "name": "web",
        "expected": "nginx:1.27",
        "found": "nginx:1.26",
    }
