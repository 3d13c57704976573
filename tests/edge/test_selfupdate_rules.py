"""Which build of the agent starts, and what becomes of builds on disk."""

from __future__ import annotations

import io
import os
import tarfile

import pytest

from edge.config import Paths
from edge.errors import Stop
from edge.selfupdate import builds, choice, launcher, trial, witness
from edge.selfupdate.choice import TRIES, Choice, next_start
from edge.selfupdate.standing import Standing
from edge.storage import records
from tests.edge import agents
from tests.edge.agents import NEW
from tests.edge.world import MANIFEST_TOPIC, Box, Built, build

A, B, C = "a" * 16, "b" * 16, "c" * 16


@pytest.mark.parametrize(
    ("held", "came_up", "after", "build"),
    [
        pytest.param(Choice(), False, Choice(), "", id="the installed agent is not counted"),
        pytest.param(Choice(chosen=A), False, Choice(chosen=A, starts=1), A, id="the chosen one is counted"),
        pytest.param(
            Choice(chosen=A, starts=TRIES), True, Choice(chosen=A, starts=1), A, id="it came up: counted anew"
        ),
        pytest.param(
            Choice(chosen=A, starts=TRIES),
            False,
            Choice(chosen=A),
            "",
            id="it did not: it rests for one start",
        ),
        pytest.param(
            Choice(chosen=A, trial=B),
            False,
            Choice(chosen=A, trial=B, starts=1),
            B,
            id="one on trial is started instead of the chosen",
        ),
        pytest.param(
            Choice(chosen=A, trial=B, starts=TRIES - 1),
            True,
            Choice(chosen=A, trial=B, starts=TRIES),
            B,
            id="a trial counts every start, whatever came of the last",
        ),
        pytest.param(
            Choice(chosen=A, trial=B, starts=TRIES, seconds=9.0),
            True,
            Choice(chosen=A, failed=B, starts=1),
            A,
            id="a trial that had its starts has failed",
        ),
        pytest.param(
            Choice(trial=B, starts=TRIES), False, Choice(failed=B), "", id="back to the installed agent"
        ),
    ],
)
def test_the_next_start(held: Choice, came_up: bool, after: Choice, build: str) -> None:
    assert next_start(held, came_up=came_up) == (after, build)


def test_no_start_is_the_last() -> None:
    """Whatever never comes up, the installed agent has its turn again and again."""
    held, seen = Choice(chosen=A, trial=B), []
    for _ in range(4 * TRIES):
        held, started = next_start(held, came_up=False)
        seen.append(started)
    assert seen[:TRIES] == [B] * TRIES
    assert seen[TRIES:].count("") >= 2
    assert held.failed == B


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What processes would have been replaced by."""
    found: list[dict[str, str]] = []
    monkeypatch.setattr(launcher, "become", lambda environ, _arguments: found.append(environ))
    monkeypatch.setattr(launcher, "_guard", lambda *_: None)
    return found


def place(paths: Paths, *names: str) -> None:
    for name in names:
        (choice.folder(paths, name) / "edge").mkdir(parents=True)
        (choice.folder(paths, name) / "edge" / "main.py").touch()


def test_a_device_without_builds_starts_as_it_is(box: Box, started: list[dict[str, str]]) -> None:
    launcher.enter(box.paths, "run", ["run"])
    assert started == []
    assert not choice.home(box.paths).exists()


def test_run_counts_and_status_only_looks(box: Box, started: list[dict[str, str]]) -> None:
    place(box.paths, A)
    choice.save(box.paths, Choice(chosen=A))
    launcher.enter(box.paths, "status", ["status"])
    assert choice.load(box.paths).starts == 0
    launcher.enter(box.paths, "run", ["run"])
    assert choice.load(box.paths).starts == 1
    assert [environ[launcher.BUILD] for environ in started] == [A, A]
    assert started[0]["PYTHONPATH"] == str(choice.folder(box.paths, A))


def test_a_second_agent_on_a_device_spends_no_start(box: Box, started: list[dict[str, str]]) -> None:
    place(box.paths, A, B)
    held = Choice(chosen=A, trial=B, starts=1)
    choice.save(box.paths, held)
    with launcher._alone(box.paths) as alone:
        assert alone
        launcher.enter(box.paths, "once", ["once"])
    assert choice.load(box.paths) == held


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda paths: (choice.folder(paths, A) / "edge" / "main.py").unlink(), id="a build is gone"),
        pytest.param(
            lambda paths: [path.write_bytes(bytes(64)) for path in choice.home(paths).glob("choice*")],
            id="the choice is zeros",
        ),
    ],
)  # fmt: skip
def test_what_is_damaged_leaves_the_installed_agent(
    box: Box, started: list[dict[str, str]], damage: object
) -> None:
    place(box.paths, A)
    choice.save(box.paths, Choice(chosen=A))
    damage(box.paths)  # type: ignore[operator]
    launcher.enter(box.paths, "run", ["run"])
    assert started == []


def test_a_start_that_cannot_be_counted_is_none_of_the_trial(
    box: Box, started: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place(box.paths, A, B)
    choice.save(box.paths, Choice(chosen=A, trial=B))

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(choice, "save", full)
    launcher.enter(box.paths, "run", ["run"])
    assert [environ[launcher.BUILD] for environ in started] == [A]


def waited(box: Box, away: list[bool], asking: int = 0) -> str:
    """Wait for the hub, five seconds at a time; `away` says what the installed agent finds each time, after `asking`
    seconds."""
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def is_hub_away(*_: object) -> bool:
        sleep(asking)
        return away.pop(0)

    return trial.not_reached(
        box.paths,
        records.changed(box.settings, agent_trial_seconds=5.0),
        steady=lambda: now,
        sleep=sleep,
        is_hub_away=is_hub_away,
    )


def test_only_a_build_on_trial_waits_for_the_hub(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    assert waited(box, []) == ""
    monkeypatch.setenv(launcher.BUILD, B)
    choice.save(box.paths, Choice(trial=B))
    assert waited(box, [False]) == "its agent did not reach the hub within 5 s"
    Standing(box.paths).reached()
    assert waited(box, []) == ""


def test_a_hub_that_is_away_for_everybody_is_no_word_against_a_new_agent(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(launcher.BUILD, B)
    choice.save(box.paths, Choice(trial=B, seconds=30.0, starts=1))
    # One that is back may have come back a moment ago: the trial goes on for its whole time once more.
    away = [True, True, False, True, False, False]
    assert waited(box, away) == "its agent did not reach the hub within 5 s"
    assert away == []
    assert choice.load(box.paths) == Choice(trial=B, seconds=55.0, starts=1)


def test_the_guard_waits_for_as_long_as_the_trial_however_slowly_the_installed_agent_finds_nobody(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(launcher.BUILD, B)
    choice.save(box.paths, Choice(trial=B, seconds=30.0, starts=1))
    waited(box, [*[True] * 9, False, False], asking=4)
    assert choice.load(box.paths).seconds == 30.0 + 10 * (4 + 5)


@pytest.mark.parametrize(
    ("transport", "levels", "away"),
    [
        pytest.param("mqtt", {"broker TLS": "pass", "hub HTTP": "warn"}, False, id="the broker is there"),
        pytest.param("mqtt", {"broker TLS": "skip", "hub HTTP": "pass"}, True, id="the hub alone is no way"),
        pytest.param("auto", {"broker TLS": "fail", "hub HTTP": "pass"}, False, id="or another way is open"),
        pytest.param("auto", {"broker TLS": "skip", "hub HTTP": "warn"}, True, id="no way is open"),
        pytest.param("https", {"broker TLS": "pass", "hub HTTP": "fail"}, True, id="the way that it has"),
        pytest.param("mqtt", {"broker TLS": "skip", "hub HTTP": "skip"}, False, id="one that did not look"),
        pytest.param("mqtt", {}, False, id="one that knows no such check"),
    ],
)
def test_what_the_installed_agent_finds(transport: str, levels: dict[str, str], away: bool) -> None:
    assert witness.says_away(levels, transport) is away


def test_the_installed_agent_is_asked_whatever_build_is_wanted(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that is not enrolled has no way to look for, and an agent that cannot say is no excuse."""
    place(box.paths, B)
    choice.save(box.paths, Choice(trial=B, seconds=30.0))
    monkeypatch.setenv(launcher.INSTALLED, str(agents.ROOT))
    monkeypatch.setenv(launcher.BUILD, B)
    monkeypatch.setenv("PYTHONPATH", str(choice.folder(box.paths, B)))
    environ = witness.environment(os.environ)
    assert (environ[launcher.BUILD], environ["PYTHONPATH"]) == ("", str(agents.ROOT))
    assert launcher.INSTALLED not in environ
    assert not witness.is_hub_away(box.paths, box.settings)


def test_an_agent_notices_that_another_is_wanted(box: Box) -> None:
    standing = Standing(box.paths)
    assert not standing.superseded
    choice.save(box.paths, Choice(trial=B))
    assert standing.superseded


def offered(box: Box, built: Built) -> tuple[str, bytes]:
    """A manifest with `built` as stable, its archive at hand."""
    assert box.source is not None
    box.source.add(built)
    return MANIFEST_TOPIC, box.manifest(built)


def carried(built: Built) -> dict[str, bytes]:
    """The files of the build in an archive."""
    with tarfile.open(fileobj=io.BytesIO(built.archive)) as tar:
        members = [member for member in tar.getmembers() if member.name.startswith(builds.PLACE)]
        files = {member.name.removeprefix(builds.PLACE): tar.extractfile(member) for member in members}
        return {name: file.read() for name, file in files.items() if file is not None}


def test_a_release_installs_its_build_whole_and_old_ones_go(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The update process puts it on trial and leaves the rest to it; nothing of the old agent is touched."""
    monkeypatch.setattr(builds, "check", lambda *_: None)
    new = agents.release(7, hook="fake")
    place(box.paths, C)
    box.agent.on_message(*offered(box, new))
    box.jobs.run()
    held = choice.load(box.paths)
    assert (held.chosen, box.state.update.state) == ("", "probation")  # type: ignore[union-attr]
    folder = choice.folder(box.paths, held.trial)
    assert {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    } == carried(new)
    assert os.access(folder / "firmware_hooks" / "exec", os.X_OK)
    assert f'"{NEW}"' in (folder / "edge" / "__init__.py").read_text()
    box.agent.on_job_end(0)
    assert box.agent.restart_wanted
    # The build itself goes on: it has reached the hub, so the release is committed and the build chosen.
    monkeypatch.setenv(launcher.BUILD, held.trial)
    choice.note(box.paths, "reached", held.trial)
    box.start()
    box.agent.start()
    box.settle()
    assert box.results()[-1] == ("committed", new.id)
    assert choice.load(box.paths) == Choice(chosen=held.trial)
    assert not choice.folder(box.paths, C).exists()


def test_a_build_that_failed_takes_the_release_back(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """R2: nothing counted as success before the agent had come up."""
    monkeypatch.setattr(builds, "check", lambda *_: None)
    new = agents.release(7, hook="fake")
    box.agent.on_message(*offered(box, new))
    box.jobs.run()
    held = choice.load(box.paths)
    choice.save(box.paths, Choice(failed=held.trial))
    box.settings = records.changed(box.settings, retry_base_seconds=3600.0, retry_cap_seconds=3600.0)
    box.start()
    box.agent.start()
    box.settle()
    assert box.results()[-1] == ("rolled_back", new.id)
    assert box.state.update.reason == f"its agent did not come up in {TRIES} starts"  # type: ignore[union-attr]
    assert box.state.failed == []
    assert choice.load(box.paths).wanted == ""


def test_files_without_an_agent_in_them_are_refused_before_anything_changes(box: Box) -> None:
    odd = build(7, {"files/agent/readme.txt": b"none"})
    box.offer(odd)
    assert box.results()[-1] == ("failed", odd.id)
    assert "files/agent/edge/main.py is missing" in box.state.update.reason  # type: ignore[union-attr]
    assert box.state.failed == [odd.id]
    assert box.calls() == []


def test_a_build_that_cannot_run_here_is_refused_with_its_own_words(box: Box) -> None:
    new = agents.release(7, {"edge/verbs/self_check.py": "\nraise SystemExit('no such chip')\n"}, hook="fake")
    box.offer(new)
    assert box.state.update.reason == "the agent that it carries does not run here: no such chip"  # type: ignore[union-attr]
    assert box.calls() == []


def test_a_file_that_changed_between_check_and_copy_is_not_copied(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D16."""
    monkeypatch.setattr(builds, "check", lambda *_: None)
    new = agents.release(7, hook="fake")
    box.offer(new)
    files = builds.carried(box.paths, new.id)
    target = box.paths.release(new.id) / "files/agent/edge/agent.py"
    target.write_bytes(target.read_bytes() + b"\n")
    for folder in choice.home(box.paths).iterdir():
        if folder.is_dir():
            (folder / "edge" / "agent.py").unlink()
    with pytest.raises(Stop, match=r"edge/agent\.py is not as it was signed"):
        builds.install(box.paths, new.id, files)
    assert not list(choice.home(box.paths).glob(".staging-*"))
