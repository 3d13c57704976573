"""`Dockerfile.hub` without an engine: what it says, and its steps carried out in a folder of their own."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from hub.main import up
from tests.e2e.fleet import until
from tests.packaging.dockerfile import exec_form, parse
from tests.support.ports import held_port

ROOT = Path(__file__).parents[2]
BUILD, FINAL = parse(ROOT / "Dockerfile.hub")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = [
    source
    for rest in BUILD.every("COPY")
    if not rest.startswith("--from=")
    for source in rest.split()[:-1]
]  # fmt: skip


def ignored(name: str) -> bool:
    """Whether .dockerignore keeps `name`, a path from the top, out of the build: the last rule that fits counts."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        rule = line.removeprefix("!")
        if not rule or rule.startswith("#"):
            continue
        parts = [name, *(str(parent) for parent in Path(name).parents)]
        tails = [part.split("/", index)[-1] for part in parts for index in range(part.count("/") + 1)]
        wanted = tails if rule.startswith("**/") else parts
        if any(fnmatch.fnmatchcase(part, rule.removeprefix("**/")) and part != "." for part in wanted):
            out = not line.startswith("!")
    return out


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_copied_exists_and_is_not_kept_out(source: str) -> None:
    assert (ROOT / source).exists()
    assert not ignored(source)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(".git/config", id="history"),
        pytest.param(".venv/bin/python", id="environment"),
        pytest.param("hub-data/admin.token", id="a data directory"),
        pytest.param("keys/release.key", id="keys"),
        pytest.param("hub/left/release.key", id="a key left among the code"),
        pytest.param("hub/__pycache__/app.cpython-311.pyc", id="bytecode"),
    ],
)
def test_what_must_not_get_into_an_image_is_kept_out(name: str) -> None:
    assert ignored(name)


def test_every_package_of_the_wheel_is_copied() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel["packages"]) <= set(SOURCES)
    assert {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "constraints.txt"} <= set(SOURCES)


def test_versions_are_pinned() -> None:
    for stage in (BUILD, FINAL):
        assert re.fullmatch(r"debian:\d+\.\d+-slim", stage.base)
    for run in BUILD.every("RUN"):
        for install in re.findall(r"pip (?:--python \S+ )?install.*?(?:&&|$)", run):
            assert "--constraint constraints.txt" in install


def test_it_runs_as_a_numbered_user_that_is_not_root_and_owns_data() -> None:
    uid, gid = FINAL.last("USER").split(":")
    assert int(uid) > 0 and int(gid) > 0
    assert f"--owner={uid} --group={gid} --mode=0700 /data" in " ".join(FINAL.every("RUN"))
    after = [name for name, _ in FINAL.instructions][[n for n, _ in FINAL.instructions].index("USER") :]
    assert "RUN" not in after


def test_its_command_is_one_that_the_hub_knows() -> None:
    program, verb, *words = exec_form(FINAL.last("ENTRYPOINT"))
    assert (Path(program).name, verb) == ("flaghoist-hub", "up")
    assert Path(program).name in PROJECT["scripts"]
    chosen = up.make_context("up", list(words)).params
    assert str(chosen["data"]) in FINAL.every("VOLUME")
    ports = {chosen[name].rpartition(":")[2] for name in ("http", "mqtt")}
    assert ports == set(FINAL.last("EXPOSE").split())


def test_labels_say_what_pyproject_says() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', FINAL.last("LABEL")))
    assert (labels["version"], labels["licenses"]) == (PROJECT["version"], PROJECT["license"])


def test_no_secret_is_baked_in() -> None:
    text = (ROOT / "Dockerfile.hub").read_text()
    assert re.findall(r"(?i)^(?:ENV|ARG)\s+\S*(?:token|secret|password|key)\S*", text, re.M) == []


# The steps, carried out


@dataclass
class Built:
    """Where the steps put things: `folder` stands for the root of the image."""

    folder: Path

    def at(self, text: str) -> str:
        """Rewrite the image's absolute paths to the folder's."""
        return re.sub(r"(?<![\w.}/])/(?=(?:tools|wheels|opt/flaghoist|data)\b)", f"{self.folder}/", text)


def carry_out(made: Built) -> None:
    source = made.folder / "src"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    # Debian's Python, as in the image: others may lie where the image's user may not read.
    path = f"/usr/bin:{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PATH": path}
    for run in BUILD.every("RUN"):
        if "apt-get" in run:
            continue
        script = made.at(run)
        done = subprocess.run(
            ["/bin/sh", "-ec", script],
            cwd=source,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"


@pytest.fixture(scope="module")
def built() -> Iterator[Built]:
    """The build stage's own RUN lines, apt aside, run on a copy of what it copies.

    Not below pytest's folder, which the image's user may not enter.
    """
    made = Built(Path(tempfile.mkdtemp(prefix="flaghoist-image-")))
    made.folder.chmod(0o711)
    try:
        carry_out(made)
        yield made
    finally:
        shutil.rmtree(made.folder, ignore_errors=True)


@pytest.mark.heavy
@pytest.mark.timeout(600)
class TestBuilt:
    """What comes out of the build stage."""

    def test_the_wheel_holds_every_package_and_hooks_that_can_be_started(self, built: Built) -> None:
        (wheel,) = (built.folder / "wheels").iterdir()
        with zipfile.ZipFile(wheel) as archive:
            modes = {item.filename: item.external_attr >> 16 for item in archive.infolist()}
        for folder in ("topics", "hub", "edge", "firmware_hooks"):
            ours = {
                str(path.relative_to(ROOT))
                for path in (ROOT / folder).rglob("*")
                if path.is_file() and path.suffix != ".pyc"
            }
            assert ours - modes.keys() == set()
        for hook in (ROOT / "firmware_hooks").iterdir():
            if hook.is_file() and hook.suffix != ".py":  # what hooks share is none
                assert modes[f"firmware_hooks/{hook.name}"] & 0o111 == 0o111
        assert not [name for name in modes if name.startswith(("tests", "docs"))]

    def test_every_command_is_installed(self, built: Built) -> None:
        for command in PROJECT["scripts"]:
            program = built.folder / "opt/flaghoist/bin" / command
            assert program.read_text().splitlines()[0] == f"#!{built.folder}/opt/flaghoist/bin/python"
        said = subprocess.run(
            [built.folder / "opt/flaghoist/bin/flaghoist-hub", "--version"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout.split()[-1] == PROJECT["version"]

    def test_everything_installed_has_the_version_that_the_tests_ran_with(self, built: Built) -> None:
        python = built.folder / "opt/flaghoist/bin/python"
        ask = (
            "import json; from importlib.metadata import distributions as found; "
            "print(json.dumps({d.name: d.version for d in found()}))"
        )
        listed = subprocess.run([python, "-c", ask], capture_output=True, check=True)
        pinned = dict(
            line.lower().replace("_", "-").split("==")
            for line in (ROOT / "constraints.txt").read_text().splitlines()
            if "==" in line
        )
        answer = json.loads(listed.stdout)
        found = {name.lower().replace("_", "-"): version for name, version in answer.items()}
        assert found.pop("flaghoist") == PROJECT["version"]
        assert {name: version for name, version in found.items() if pinned.get(name) != version} == {}
        assert {"pip", "pytest", "psutil"} & found.keys() == set()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become the image's user")
    def test_the_hub_runs_as_that_user_and_writes_only_to_data(self, built: Built) -> None:
        """In a mount namespace whose every file system is read-only, /data aside; the health check passes."""
        uid, gid = FINAL.last("USER").split(":")
        data = built.folder / "data"
        data.mkdir(mode=0o700)
        os.chown(data, int(uid), int(gid))
        http, mqtt = held_port(), held_port()

        def ported(word: str) -> str:
            return built.at(word).replace(":8080", f":{http}").replace(":8883", f":{mqtt}")

        command = [ported(word) for word in exec_form(FINAL.last("ENTRYPOINT"))]
        sealed = (
            f"mount --bind {data} {data}\n"
            "for place in $(awk '{print $2}' /proc/mounts | sort -u); do\n"
            f'  case "$place" in {data}|/proc*|/sys*|/dev*) ;; *) mount -o remount,bind,ro "$place" ;; esac\n'
            "done\n"
            f"cd {data}\n"
            f'exec setpriv --reuid {uid} --regid {gid} --clear-groups --no-new-privs "$@"\n'
        )
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
        space = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-ec", sealed, "sh"]
        log = (built.folder / "hub.log").open("wb")
        hub = subprocess.Popen(
            [*space, *command], env=environment, stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        try:
            checker = [ported(word) for word in exec_form(FINAL.last("HEALTHCHECK").partition("CMD ")[2])]

            def healthy() -> bool:
                assert hub.poll() is None, (built.folder / "hub.log").read_text()[-3000:]
                return subprocess.run(checker, capture_output=True, check=False).returncode == 0

            until("a health check that passes", healthy, seconds=60, every=0.5)
            family = [psutil.Process(hub.pid), *psutil.Process(hub.pid).children(recursive=True)]
            assert {(process.name(), process.uids().real, process.gids().real) for process in family} == {
                ("flaghoist-hub", int(uid), int(gid)),
                ("mosquitto", int(uid), int(gid)),
            }
            assert {(process.uids().effective, process.uids().saved) for process in family} == {
                (int(uid), int(uid))
            }
            assert (data / "admin.token").stat().st_mode & 0o777 == 0o600
            mounts = Path(f"/proc/{hub.pid}/mountinfo").read_text()
            assert re.search(r" / / ro\b", mounts), "the namespace was not read-only"
            hub.terminate()
            assert hub.wait(30) == 0
            assert not any(process.is_running() for process in family[1:])
        finally:
            if hub.poll() is None:
                hub.kill()
                hub.wait()
        assert checker and subprocess.run(checker, capture_output=True, check=False).returncode != 0
