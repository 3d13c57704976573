"""A real fleet on one machine: the hub, the operator's command and agents, each a process of its own.

Everything goes through the commands that people use; what is looked at is what the operator, the device and
the broker see.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil

from tests.e2e import leaks
from tests.support.ports import held_port

BIN = Path(sys.executable).parent
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "fleet-repo"
MARKER = "fleet-of-a-test"
"""A file that a fleet puts into its folder: nothing is ended or removed below a folder without it."""
T = TypeVar("T")


class NotObservedError(AssertionError):
    """Something that should have been observed was not."""


def until(what: str, look: Callable[[], T], *, seconds: float = 60.0, every: float = 0.1) -> T:
    """Return the first true answer of `look`, asked again until it comes; raises `NotObservedError` after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise NotObservedError(f"{what} was not observed within {seconds:g} s (last answer: {answer!r})")
        time.sleep(every)


@dataclass
class Agent:
    """One device: its state directory, its service's port and, while it runs, its process."""

    device_id: str
    segment: str
    state: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def current(self) -> str | None:
        """The release that the device's `current` link points at, None before the first."""
        link = self.state / "current"
        return link.resolve().name if link.is_symlink() else None

    def holds(self, release: str) -> bool:
        """Whether any file of a release ever got onto this device's disk."""
        return any(release in path.name for path in self.state.rglob("*"))

    def health(self) -> dict[str, Any]:
        """What the device's own service answers, {} while it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            return dict(json.load(error))
        except (OSError, ValueError):
            return {}


@dataclass
class Fleet:
    """Hub, repository, keys and agents below one folder."""

    folder: Path
    name: str = "demo"
    interval: int = 5
    hub: subprocess.Popen[bytes] | None = None
    url: str = ""
    agents: dict[str, Agent] = field(default_factory=dict)
    http_port: int = field(default_factory=held_port)
    mqtt_port: int = field(default_factory=held_port)
    options: tuple[str, ...] = ()
    """Further options of `flaghoist-hub up`."""
    given_out: list[str] = field(default_factory=list)
    """Enrolment tokens, which no log may hold."""

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()

    def mark(self) -> None:
        """Make the folder this fleet's own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / MARKER).touch()

    @property
    def data(self) -> Path:
        """The hub's data directory."""
        return self.folder / "hub"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the operator's command."""
        token = self.data / "admin.token"
        return {
            **os.environ,
            "FLAGHOIST_URL": self.url,
            "FLAGHOIST_TOKEN": token.read_text().strip() if token.exists() else "",
            "NO_COLOR": "1",
        }

    @contextlib.contextmanager
    def ready(self) -> Iterator[Self]:
        """Run a hub with its root of trust, beside a fleet repository, until the `with` ends."""
        try:
            self.start_hub()
            self.make_trust()
            self.make_repo()
            yield self
        finally:
            self.close()

    # The hub

    def start_hub(self) -> None:
        """Start `flaghoist-hub up` (on the same ports after a restart) and wait until it answers."""
        self.mark()
        log = (self.folder / "hub.log").open("ab")
        self.hub = subprocess.Popen(
            [
                BIN / "flaghoist-hub",
                "up",
                "--data",
                self.data,
                "--fleet",
                self.name,
                "--http",
                f"127.0.0.1:{self.http_port}",
                "--mqtt",
                f"127.0.0.1:{self.mqtt_port}",
                "--update-interval",
                str(self.interval),
                # All devices, and all who ask, come from one address here.
                "--request-limit",
                "0",
                *self.options,
            ],
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        self.url = until("the hub's address", self._address, seconds=90)
        until("the hub's answer", lambda: self.get("/health/live"), seconds=60)

    def _address(self) -> str:
        assert self.hub is not None and self.hub.stdout is not None
        if self.hub.poll() is not None:
            raise NotObservedError(f"the hub ended: {(self.folder / 'hub.log').read_text()[-2000:]}")
        line = self.hub.stdout.readline().decode()
        return line.split()[1] if line.startswith("API") else ""

    def kill_hub(self) -> None:
        """SIGKILL, as a power cut or the kernel would."""
        assert self.hub is not None and self.hub.stdout is not None
        self.hub.kill()
        self.hub.wait()
        self.hub.stdout.close()

    def broker_pid(self) -> int:
        """Process id of the hub's Mosquitto."""
        assert self.hub is not None
        for child in psutil.Process(self.hub.pid).children(recursive=True):
            if child.name() == "mosquitto":
                return int(child.pid)
        raise NotObservedError("the hub has no mosquitto")

    def get(self, path: str) -> Any:
        """GET a path of the API as the admin; {} when it does not answer well."""
        token = self.environment["FLAGHOIST_TOKEN"]
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except (OSError, ValueError):
            return {}

    def refusal(self, path: str) -> str:
        """The rule by which the API refuses a path to the admin, "" when it does not."""
        token = self.environment["FLAGHOIST_TOKEN"]
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=10):
                return ""
        except urllib.error.HTTPError as error:
            return str(json.load(error).get("rule", ""))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """POST to the API as the admin; raises `NotObservedError` when it refuses."""
        headers = {
            "Authorization": f"Bearer {self.environment['FLAGHOIST_TOKEN']}",
            "Content-Type": "application/json",
        }
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise NotObservedError(f"POST {path}: {error.read().decode()}") from None

    # The operator

    def flaghoist(self, *words: str | Path, expect: int = 0) -> str:
        """Run the operator's command and return what it printed; raises `NotObservedError` on another exit code."""
        done = subprocess.run(
            [BIN / "flaghoist", *words], env=self.environment, capture_output=True, timeout=60, check=False
        )
        if done.returncode != expect:
            raise NotObservedError(
                f"flaghoist {' '.join(map(str, words))} ended with {done.returncode}, not {expect}: "
                f"{done.stderr.decode().strip()}"
            )
        return (done.stdout + done.stderr).decode()

    def make_trust(self) -> None:
        """Make root and release keys in a folder of their own and give the hub the root."""
        for name in ("root", "release"):
            self.flaghoist("keys", "generate", name, "--no-passphrase", "--out", self.keys)
        root = self.folder / "root.1.dsse"
        self.flaghoist(
            *("root", "init", "--fleet", self.name, "--root-key", self.keys / "root.key"),
            *("--release-key", self.keys / "release.pub", "--deployment-key", self.url, "--out", root),
        )
        self.flaghoist("root", "publish", root)

    @property
    def keys(self) -> Path:
        """Where root and release keys are; the hub never reads this folder."""
        return self.folder / "keys"

    @property
    def repo(self) -> Path:
        """The fleet repository, a git checkout."""
        return self.folder / "repo"

    def make_repo(self) -> None:
        """Copy the example repository and make its first commit."""
        shutil.copytree(EXAMPLE, self.repo)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("first release")

    def git(self, *words: str) -> str:
        """Run git in the repository."""
        who = ["-c", "user.name=demo", "-c", "user.email=demo@example.invalid", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", "-C", self.repo, *who, *words], check=True, capture_output=True, text=True, timeout=30
        )
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        """Commit everything; returns the commit's id."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def publish(self, role: str, sequence: int, *, commit: str = "HEAD") -> str:
        """Build, sign and publish a release of `role`; returns its id."""
        out = self.folder / "out"
        before = set(out.iterdir()) if out.exists() else set()
        self.flaghoist(
            *("release", "build", "--role", role, "--repo", self.repo, "--commit", commit),
            *("--sequence", str(sequence), "--fleet", self.name, "--out", out),
        )
        (built,) = set(out.iterdir()) - before
        self.flaghoist("release", "sign", built, "--key", self.keys / "release.key")
        self.flaghoist("release", "publish", built)
        return built.name

    def progress(self, release: str, segment: str) -> dict[str, Any]:
        """One segment's row of a rollout's progress."""
        found = self.get(f"/releases/{release}/progress")
        return next((row for row in found.get("segments", []) if row["segment"] == segment), {})

    # The devices

    def enrol(self, device_id: str, segment: str, role: str = "kiosk", **settings: Any) -> Agent:
        """Enrol a device with a token of its own; `settings` are its `agent.json`."""
        agent = Agent(device_id, segment, self.folder / "devices" / device_id, held_port())
        agent.state.mkdir(parents=True, exist_ok=True)
        (agent.state / "device.env").write_text(f"PORT={agent.port}\n")
        if settings:
            (agent.state / "agent.json").write_text(json.dumps(settings))
        words = ("device", "token", "--role", role, "--segment", segment, "--json")
        token = json.loads(self.flaghoist(*words))["token"]
        self.given_out.append(token)
        self.edge(agent, "enrol", "--hub", self.url, "--token", token, "--device-id", device_id)
        self.agents[device_id] = agent
        return agent

    def edge(self, agent: Agent, *words: str, expect: int = 0) -> str:
        """Run the agent's command on a device; raises `NotObservedError` on another exit code."""
        verb, *rest = words
        done = subprocess.run(
            [BIN / "flaghoist-edge", verb, "--state", agent.state, *rest],
            env=_edge_environment(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        if done.returncode != expect:
            raise NotObservedError(
                f"flaghoist-edge {verb} ended with {done.returncode}: {done.stderr.decode().strip()}"
            )
        return (done.stdout + done.stderr).decode()

    def start(self, agent: Agent, **environment: str) -> None:
        """Start a device's agent, with more in its environment than there is."""
        with (self.folder / f"{agent.device_id}.log").open("ab") as log:
            agent.process = subprocess.Popen(
                [BIN / "flaghoist-edge", "run", "--state", agent.state],
                env=_edge_environment() | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self, agent: Agent) -> None:
        """End a device's agent in good order; its service goes on, as after an agent's restart."""
        if agent.process is not None:
            agent.process.terminate()
            agent.process.wait(timeout=20)
            agent.process = None

    # The end

    def close(self) -> list[str]:
        """End every process below this fleet; returns the names of those that had to be killed.

        Raises `NotObservedError` when a log of the fleet holds one of its secrets.
        """
        for agent in self.agents.values():
            if agent.process is not None:
                agent.process.terminate()
        if self.hub is not None and self.hub.poll() is None:
            self.hub.terminate()
        owned = [agent.process for agent in self.agents.values() if agent.process] + [self.hub]
        killed = []
        for process in owned:
            if process is not None:
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    killed.append(str(process.args))
                    process.kill()
                    process.wait()
        if self.hub is not None and self.hub.stdout is not None:
            self.hub.stdout.close()
        services = list(self.processes())
        for service in services:
            with contextlib.suppress(psutil.NoSuchProcess):
                service.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(services, timeout=10)
        for service in alive:
            killed.append(service.name())
            with contextlib.suppress(psutil.NoSuchProcess):
                service.kill()
        psutil.wait_procs(alive, timeout=5)
        if leaked := leaks.found(self.folder, self.given_out):
            raise NotObservedError(f"logs hold secrets: {leaked}")
        return killed

    def processes(self) -> Iterator[psutil.Process]:
        """Every process, our own aside, that works in this fleet's folder or was told of it.

        Yields nothing for a folder that no fleet marked as its own.
        """
        if not (self.folder / MARKER).is_file():
            return
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                    told = process.environ().get("FLAGHOIST_STATE_DIR", "")
                    if any(self._is_below(place) for place in (told, process.cwd(), *process.cmdline())):
                        yield process

    def _is_below(self, text: str) -> bool:
        return text.startswith("/") and Path(text).is_relative_to(self.folder)


def _edge_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1"}
