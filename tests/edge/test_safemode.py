"""Safe mode: what enters it, what works within it, and how it is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from edge import safemode
from edge.config import Paths, Settings
from edge.machine import starts
from edge.machine.starts import NONE, Starts, Watch
from edge.storage import records, state
from tests.edge.rig import Rig, exec_release, stop
from tests.edge.world import DESIRED_TOPIC, MANIFEST_TOPIC, NOW, QUICK, Box, Source, build, wait_until
from tests.topics import kit
from topics.documents import Command
from topics.messages import CommandResult, Recovery

# Entering: a boot loop

ROWS = [
    pytest.param(NONE, "a", False, 1, id="the first start"),
    pytest.param(Starts(count=3, boot="a"), "b", False, 4, id="the machine has restarted"),
    pytest.param(Starts(count=3, boot="a"), "a", False, 4, id="the agent was killed"),
    pytest.param(Starts(count=3, boot="a", ended=True), "a", False, 1, id="somebody stopped the agent"),
    pytest.param(Starts(count=3, boot="a", ended=True), "b", False, 4, id="restarted in good order"),
    pytest.param(Starts(count=3, boot="a", lasted=True), "b", False, 1, id="the run before lasted"),
    pytest.param(Starts(count=3, boot="a"), "b", True, 0, id="D6: power is played with in mid-update"),
]


@pytest.mark.parametrize(("before", "boot", "under_way", "count"), ROWS)
def test_which_starts_count(before: Starts, boot: str, under_way: bool, count: int) -> None:
    after = starts.counted(before, boot, under_way=under_way)
    assert (after.count, after.boot, after.ended, after.lasted) == (count, boot, False, False)


@pytest.mark.parametrize(
    ("count", "limit", "loop"), [(7, 8, False), (8, 8, True), (9, 8, True), (0, 0, False), (99, 0, False)]
)
def test_how_many_are_a_loop(count: int, limit: int, loop: bool) -> None:
    assert starts.is_loop(Starts(count=count), limit) is loop


SHORT: Final = records.changed(QUICK, boot_loop_starts=3, boot_loop_seconds=600)


def start(box: Box, boot: str, settings: Settings = SHORT) -> Watch:
    """Start the agent as `run` does, in the boot `boot`."""
    agent = box.start()
    watch = Watch(box.paths, settings)
    safemode.look_for_a_loop(agent, watch, boot, 0.0)
    box.online()
    return watch


def reasons(box: Box) -> list[str]:
    return [report.reason for report in box.link.of("recovery") if report.state == "entered"]


def test_a_boot_loop_enters_safe_mode_and_blames_no_release(box: Box) -> None:
    built = build(7)
    box.offer(built)
    for boot in "abc":
        assert not box.state.safe_mode
        start(box, boot)
    assert box.state.safe_mode and box.calls()[-1] == f"safe-mode {built.id}"
    assert reasons(box) == ["boot loop: 3 starts in a row did not last 600 s"]
    assert (box.state.failed, box.state.failures, box.state.attempts) == ([], 0, {built.id: 1})
    # Leaving it begins a new row.
    box.hear(
        kit.signed_desired(box.numbers.next(), safe_mode=f"cleared:{box.state.safe_mode}"), DESIRED_TOPIC
    )
    for boot in "de":
        start(box, boot)
        assert not box.state.safe_mode


def test_runs_that_last_or_end_in_good_order_are_no_loop(box: Box) -> None:
    for _ in range(5):
        start(box, "a").end()
    for boot in "bcdef":
        watch = start(box, boot)
        assert watch.deadline is not None
        watch.turned(watch.deadline)
        assert watch.deadline is None
    assert not box.state.safe_mode and starts.row(box.paths) == 0


def test_a_device_that_a_timer_wakes_is_in_a_loop_only_if_no_run_gets_done(box: Box) -> None:
    """One that is switched off after each run is no loop, however short its boots are."""
    for boot in "abcdef":
        start(box, boot).done()
    assert not box.state.safe_mode
    for boot in "gh":
        start(box, boot)
    assert not box.state.safe_mode
    start(box, "i")
    assert box.state.safe_mode


def test_power_that_is_played_with_in_mid_update_is_no_loop(box: Box, source: Source) -> None:
    """D6: the update's own count decides, and ends with the release's tries unspent."""
    box.offer(build(7))
    built = source.add(build(8))
    box.agent.on_message(MANIFEST_TOPIC, box.manifest(built))
    for boot in "abcdef":
        agent = box.start()
        watch = Watch(box.paths, SHORT)
        assert not watch.begin(boot, 0.0, under_way=True)
        assert agent.state.update is not None and agent.state.update.state == "downloading"
    start(box, "g")
    assert box.state.running_id == built.id and not box.state.safe_mode


def test_zero_looks_for_no_loop(box: Box) -> None:
    for boot in "abcdefghi":
        start(box, boot, records.changed(SHORT, boot_loop_starts=0))
    assert not box.state.safe_mode


def test_a_torn_count_is_counted_from_the_one_before(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    for boot in "ab":
        Watch(paths, SHORT).begin(boot, 0.0, under_way=False)
    (tmp_path / "starts").write_bytes(b"")
    assert starts.row(paths) == 1
    assert not Watch(paths, SHORT).begin("c", 0.0, under_way=False)


# Entering: a state that nobody can read


@pytest.mark.parametrize("damage", [b"", bytes(500), b"\xff" * 100], ids=["empty", "zeros", "garbage"])
def test_a_state_lost_in_both_generations_enters_safe_mode(box: Box, damage: bytes) -> None:
    built = build(7)
    box.offer(built)
    for path in box.paths.root.glob("state*"):
        path.write_bytes(damage)
    box.start()
    box.online()
    assert box.state.safe_mode and box.state.running_id == built.id
    assert box.calls()[-1] == f"safe-mode {built.id}"
    assert reasons(box) == ["the file of the update's state and the one before it are damaged"]
    box.start()
    box.online()
    assert len({report.entry for report in box.link.of("recovery")}) <= 1, "it is one stay"
    order = Command(id="c-1", kind="redeploy", expires_at=NOW + kit.DAY)
    box.hear(kit.signed_desired(box.numbers.next(), commands=[order]), DESIRED_TOPIC)
    assert not box.state.safe_mode and box.state.running_id == built.id


def test_a_device_without_a_state_is_new_and_not_broken(box: Box) -> None:
    for path in box.paths.root.glob("state*"):
        path.unlink()
    box.start()
    box.online()
    assert not box.state.safe_mode


# Within it


def enter(box: Box) -> str:
    """Bring the device into safe mode of its own accord, and return the stay."""
    box.offer(build(7))
    safemode.enter(box.agent, "for a test")
    box.agent.check_now()
    box.settle()
    return box.state.safe_mode


WITHIN: list[Any] = [
    pytest.param("redeploy", True, id="redeploy"),
    pytest.param("collect-diagnostics", True, id="collect-diagnostics"),
    pytest.param("report-now", True, id="report-now"),
    pytest.param("restart-agent", True, id="restart-agent"),
    pytest.param("check-drift", False, id="check-drift"),
    pytest.param("repair-drift", False, id="repair-drift"),
    pytest.param("fail-next-update", False, id="fail-next-update"),
]


@pytest.mark.parametrize(("kind", "done"), WITHIN)
def test_only_recovery_commands_work(box: Box, kind: Any, done: bool) -> None:
    enter(box)
    command = Command(id="c-1", kind=kind, expires_at=NOW + kit.DAY)
    box.hear(kit.signed_desired(box.numbers.next(), commands=[command]), DESIRED_TOPIC)
    answer: CommandResult = box.link.of("command-result")[-1]
    assert (answer.command, answer.ok) == ("c-1", done)
    assert done or answer.detail == "the device is in safe mode"


def test_every_kind_of_command_has_its_row() -> None:
    from topics.documents import CommandKind

    assert {row.values[0] for row in WITHIN} == set(CommandKind.__args__)  # type: ignore[attr-defined]


def test_heartbeats_go_on_and_updates_do_not(box: Box) -> None:
    enter(box)
    beats = len(box.link.of("status"))
    box.offer(build(8))
    assert box.status.safe_mode and len(box.link.of("status")) > beats
    assert box.status.verdict is not None and box.status.verdict.reason == "quarantined"
    assert box.state.running_id == build(7).id


def test_the_minimal_stack_is_asked_for_once_a_stay_and_a_failing_hook_does_not_loop(box: Box) -> None:
    """D7."""
    (box.paths.root / "fail-safe-mode").touch()
    enter(box)
    for _ in range(3):
        box.agent.check_now()
        box.settle()
    assert box.calls().count(f"safe-mode {build(7).id}") == 1
    assert box.state.service == "this device cannot safe-mode"


# Leaving it

LEAVE: list[tuple[str, Callable[[Box, str], None], bool]] = [
    ("cleared", lambda box, entry: say(box, safe_mode=f"cleared:{entry}"), True),
    ("another stay cleared", lambda box, _: say(box, safe_mode="cleared:own-0-0"), False),
    ("an order that ended", lambda box, _: say(box, safe_mode="auto"), False),
    ("redeploy", lambda box, _: say(box, commands=[redeploy()]), True),
    ("a good release alone", lambda box, _: box.offer(build(9)), False),
]


def say(box: Box, **fields: Any) -> None:
    box.hear(kit.signed_desired(box.numbers.next(), **fields), DESIRED_TOPIC)


def redeploy() -> Command:
    return Command(id="c-9", kind="redeploy", expires_at=NOW + kit.DAY)


@pytest.mark.parametrize(
    ("order", "leaves"), [pytest.param(order, leaves, id=name) for name, order, leaves in LEAVE]
)
def test_what_leaves_it(box: Box, order: Callable[[Box, str], None], leaves: bool) -> None:
    entry = enter(box)
    order(box, entry)
    assert bool(box.state.safe_mode) is not leaves
    told: list[Recovery] = [report for report in box.link.of("recovery") if report.state == "left"]
    assert [report.entry for report in told] == ([entry] if leaves else [])


def row(rig: Rig) -> tuple[int, bool]:
    counted = records.load(rig.paths.root / "starts", Starts)[0] or NONE
    return counted.count, counted.ended


@pytest.mark.heavy
def test_a_real_agent_that_is_killed_again_and_again_enters_safe_mode_and_is_brought_out(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAGHOIST_EDGE_BOOT_LOOP_STARTS", "3")
    built = rig.source.add(exec_release(7))
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(built))
    first = rig.run()
    wait_until(lambda: state.load(rig.paths).running_id == built.id)
    wait_until(lambda: rig.service is not None)
    stop(first)
    for count in (1, 2):
        process = rig.run()
        wait_until(lambda c=count: row(rig) == (c, False))  # type: ignore[misc]
        process.kill()
        process.wait()
    rig.run()
    wait_until(lambda: state.load(rig.paths).safe_mode_applied)
    wait_until(lambda: rig.service is None)
    entry = state.load(rig.paths).safe_mode
    rig.hoist(DESIRED_TOPIC, kit.signed_desired(rig.box.numbers.next(), safe_mode=f"cleared:{entry}"))
    wait_until(lambda: not state.load(rig.paths).safe_mode)
    wait_until(lambda: rig.service is not None)
