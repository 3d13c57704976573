"""D13: the agent updates itself, its manager kills everything it runs, and always one whole agent works.

Real processes on a real broker: the agent of this repository, and builds of it that come with releases.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from edge import VERSION
from edge.selfupdate import choice
from edge.storage import state
from tests.edge import agents
from tests.edge.agents import NEW, Manager
from tests.edge.rig import Rig, exec_release
from tests.edge.world import DESIRED_TOPIC, MANIFEST_TOPIC, Built, Source, wait_until
from topics.messages import Status, UpdateResult

BREAKS = "\nif not __import__('sys').argv[1:2] == ['self-check']:\n    raise RuntimeError('no agent today')\n"
HANGS = "\nimport time\ndef run(*_a, **_k):\n    time.sleep(3600)\n"
EXITS = "\ndef run(*_a, **_k):\n    return 2\n"
DEAF = "\nMqttLink.open = lambda self, *_: self._events.append(Disconnected('deaf'))\n"
CHILDLESS = "\ndef run(*_a, **_k):\n    return 1\n"

pytestmark = pytest.mark.heavy


class Device:
    """An enrolled device whose manager keeps its agent running, with a first release committed."""

    def __init__(self, rig: Rig, folder: Path, trial: float) -> None:
        self.rig = rig
        quick = {
            "AGENT_TRIAL_SECONDS": str(trial),
            "RETRY_BASE_SECONDS": "3600",
            "RESPAWN_SECONDS": "0.2",
        }
        environment = rig.environment | {f"FLAGHOIST_EDGE_{name}": text for name, text in quick.items()}
        self.first = rig.source.add(exec_release(7))
        rig.hoist(DESIRED_TOPIC, rig.box.desired)
        self.manager = Manager(rig.command("run"), environment, folder / "log")
        self.offer(self.first)
        self.ended(self.first)

    def offer(self, built: Built) -> None:
        self.rig.source.add(built)
        self.rig.hoist(MANIFEST_TOPIC, self.rig.box.manifest(built))

    def ended(self, built: Built) -> UpdateResult:
        """Return the report of the end of an update."""
        found: list[UpdateResult] = []

        def is_there() -> bool:
            with contextlib.suppress(queue.Empty):
                found.append(self.rig.result())
            return bool(found) and found[-1].state != "downloading" and found[-1].release == built.id

        wait_until(is_there, seconds=240, what=f"the end of {built.id}")
        return found[-1]

    def status(self) -> Status:
        return self.rig.status()

    def version(self, wanted: str) -> None:
        """Wait for a heartbeat of an agent of this version."""
        wait_until(lambda: self.status().agent_version == wanted, what=f"agent {wanted}")

    @property
    def choice(self) -> choice.Choice:
        return choice.load(self.rig.paths)

    @property
    def build(self) -> str:
        """The build that the managed process is."""
        try:
            environ = Path(f"/proc/{self.manager.pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return ""
        return next(
            (e.split(b"=")[1].decode() for e in environ if e.startswith(b"FLAGHOIST_AGENT_BUILD=")), ""
        )


@pytest.fixture
def device(rig: Rig, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Device]:
    made = Device(rig, tmp_path, getattr(request, "param", 120.0))
    yield made
    made.manager.stop()


def test_a_release_brings_its_agent_and_is_committed_by_it(device: Device) -> None:
    """Without a new start by the manager: the agent becomes the build."""
    pid = device.manager.pid
    new = agents.release(8)
    device.offer(new)
    assert device.ended(new).state == "committed"
    device.version(NEW)
    assert (device.manager.pid, device.manager.starts) == (pid, 1)
    wait_until(lambda: device.choice == choice.Choice(chosen=device.build), what="the choice")
    status = json.loads(device.rig.ask("status", "--json").stdout)
    assert status["agent"] == f"{NEW} (build {device.choice.chosen})"
    # After a new start too, and through a release that carries no agent.
    device.manager.kill()
    device.version(NEW)
    plain = exec_release(9)
    device.offer(plain)
    assert device.ended(plain).state == "committed"
    device.version(NEW)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"edge/resident.py": BREAKS}, "did not come up in 3 starts", id="it ends at once"),
        pytest.param({"edge/verbs/run.py": EXITS}, "did not come up in 3 starts", id="it ends with exit 2"),
        pytest.param({"edge/verbs/self_check.py": BREAKS + "\ndef run(*_): raise SystemExit('no agent here')"},
            "the agent that it carries does not run here: no agent here", id="it says itself that it cannot"),
    ],
)  # fmt: skip
def test_an_agent_that_does_not_come_up_takes_its_release_back_with_it(
    device: Device, changes: dict[str, str], said: str
) -> None:
    new = agents.release(8, changes)
    device.offer(new)
    result = device.ended(new)
    assert result.state in ("rolled_back", "failed")
    assert said in result.reason
    device.version(VERSION)
    held = state.load(device.rig.paths)
    assert held.running_id == device.first.id
    assert (device.choice.wanted, device.build) == ("", "")


@pytest.mark.parametrize("device", [15.0], indirect=True)
def test_an_agent_that_never_connects_takes_its_release_back_with_it(device: Device) -> None:
    new = agents.release(8, {"edge/link.py": DEAF})
    device.offer(new)
    assert "did not reach the hub within 15 s" in device.ended(new).reason
    device.version(VERSION)
    assert (device.choice.wanted, device.build) == ("", "")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("device", [15.0], indirect=True)
def test_a_new_agent_outlasts_a_hub_that_is_away_through_its_whole_trial_and_tells_later(
    device: Device,
) -> None:
    """The swap is healthy, and nobody is there to hear of it for longer than a trial lasts."""
    asked, away = threading.Event(), threading.Event()

    def once_it_is_away(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        asked.set()
        away.wait(60)
        if data:
            Source.serve(handler, data)
        else:
            handler.send_error(404)

    new = agents.release(8)
    device.rig.source.faults = [once_it_is_away]
    device.offer(new)
    assert asked.wait(60)
    device.rig.broker.stop()
    away.set()
    wait_until(lambda: device.choice.trial, seconds=120, what="the trial")
    given = device.choice.seconds
    wait_until(lambda: device.choice.seconds > given, seconds=120, what="a trial that goes on")
    assert device.build == device.choice.trial
    device.rig.broker.start()
    wait_until(lambda: device.choice.chosen == device.build != "", seconds=120, what="the choice")
    held = state.load(device.rig.paths)
    assert (held.running_id, held.failed) == (new.id, [])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("device", [2.0], indirect=True)
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"edge/verbs/run.py": HANGS}, id="it hangs"),
        pytest.param({"edge/verbs/update.py": CHILDLESS}, id="its update process always fails"),
    ],
)
def test_an_agent_that_neither_works_nor_ends_is_ended_by_the_guard(
    device: Device, changes: dict[str, str]
) -> None:
    new = agents.release(8, changes)
    device.offer(new)
    assert "did not come up in 3 starts" in device.ended(new).reason
    device.version(VERSION)
    assert state.load(device.rig.paths).running_id == device.first.id


STEPS: dict[str, Callable[[Device], object]] = {
    "its agent is copied": lambda d: [path for path in choice.home(d.rig.paths).glob("*") if path.is_dir()],
    "its agent is on trial": lambda d: d.choice.trial,
    "its agent was started": lambda d: d.build,
    "its agent has come up": lambda d: choice.noted(d.rig.paths, "reached"),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_of_everything_at_any_step_leaves_one_whole_agent(device: Device, step: str) -> None:
    new = agents.release(8)
    device.offer(new)
    wait_until(lambda: STEPS[step](device), what=step)
    device.manager.kill()
    assert device.ended(new).state == "committed"
    device.version(NEW)
    wait_until(lambda: device.choice.chosen and device.build == device.choice.chosen)
    assert state.load(device.rig.paths).running_id == new.id
    assert device.choice.trial == ""
    # Nothing half-copied stays, and nothing that nobody needs.
    kept = {path.name for path in choice.home(device.rig.paths).iterdir() if path.is_dir()}
    assert kept == {device.choice.chosen}


def test_an_order_back_brings_back_the_agent_of_that_release(device: Device) -> None:
    new = agents.release(8)
    device.offer(new)
    assert device.ended(new).state == "committed"
    older = agents.release(9, {"edge/mirror.py": "\n# another build\n"})
    device.offer(older)
    assert device.ended(older).state == "committed"
    wait_until(lambda: device.build == device.choice.chosen, what="the choice")
    before = device.choice.chosen
    body = device.rig.box.manifest(new, event="rollback", rollback_from=9)
    device.rig.hoist(MANIFEST_TOPIC, body)
    assert device.ended(new).state == "committed"
    wait_until(lambda: device.build == device.choice.chosen != before)
