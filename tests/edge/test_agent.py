"""The agent from signed message to running release, on an in-memory broker and a real source."""

from __future__ import annotations

from typing import Any

import pytest

from edge.connection import PATIENCE, Connection
from tests.edge.world import (
    DESIRED_TOPIC,
    DEVICE,
    MANIFEST_TOPIC,
    NOW,
    ROOT_TOPIC,
    Box,
    Built,
    Source,
    build,
    tree,
)
from tests.topics import kit
from topics import codec
from topics.documents import Command, RootChain


def desired(box: Box, *commands: Command, **changes: Any) -> bytes:
    return kit.signed_desired(box.numbers.next(), commands=list(commands), **changes)


def command(kind: Any, id_: str = "c-1", **changes: Any) -> Command:
    return Command(id=id_, kind=kind, expires_at=changes.pop("expires_at", NOW + kit.DAY), **changes)


def test_a_device_with_nothing_installs_the_stable_release(box: Box) -> None:
    built = build(7)
    box.offer(built)
    assert box.state.running_id == built.id
    assert tree(box.paths.current)["files/app.txt"] == b"app 7"
    assert box.results() == [("downloading", built.id), ("committed", built.id)]
    assert box.calls() == [f"install {built.id}", f"activate {built.id}", f"confirm {built.id}"]
    running = box.status.running
    assert running is not None and running.id == built.id
    assert box.status.attempt is not None and box.status.attempt.state == "committed"
    assert box.status.verdict is not None and box.status.verdict.reason == "already_installed"


def test_an_update_keeps_the_old_release_as_previous(box: Box) -> None:
    first, second, third = build(7), build(8), build(9)
    for built in (first, second, third):
        box.offer(built)
    assert box.paths.current.readlink().name == third.id
    assert box.paths.previous.readlink().name == second.id
    assert sorted(path.name for path in box.paths.releases.iterdir()) == sorted([second.id, third.id])
    assert list(box.paths.downloads.iterdir()) == []


@pytest.mark.parametrize(
    ("verb", "rolled_back_by"),
    [
        pytest.param("install", "no install today", id="install fails before the swap"),
        pytest.param("activate", "no activate today", id="activate fails after the swap"),
        pytest.param("probe", "probe: no probe today", id="the hook's probe fails in probation"),
    ],
)
def test_a_release_that_fails_gives_way_to_the_old_one(box: Box, verb: str, rolled_back_by: str) -> None:
    good, bad = build(7), build(8, {f"files/fail-{verb}": b""})
    box.offer(good)
    box.offer(bad)
    assert box.state.running_id == good.id
    assert box.paths.current.readlink().name == good.id
    assert tree(box.paths.current)["files/app.txt"] == b"app 7"
    assert box.state.failed == [bad.id]
    assert box.results()[-2:] == [("downloading", bad.id), ("rolled_back", bad.id)]
    assert box.state.update is not None and box.state.update.reason == rolled_back_by
    assert box.calls()[-1] == f"rollback {bad.id} {good.id}"
    assert box.status.verdict is not None and box.status.verdict.reason == "failed_here_before"


def test_a_failing_first_install_leaves_nothing_current(box: Box) -> None:
    box.offer(build(7, {"files/fail-activate": b""}))
    assert box.state.running is None
    assert not box.paths.current.is_symlink()
    assert list(box.paths.releases.iterdir()) == []


def test_validate_scripts_judge_the_release(box: Box) -> None:
    script = b"#!/bin/sh\necho warming up >&2\necho port $PORT is closed >&2\nexit 1\n"
    (box.paths.root / "device.env").write_text("PORT=8081\n")
    box.offer(build(7, {"validate/10-port": script}))
    assert box.state.update is not None
    assert box.state.update.reason == "validate/10-port: port 8081 is closed"


def test_a_failed_release_is_not_tried_again_until_redeploy(box: Box) -> None:
    bad = build(8, {"files/fail-activate": b""})
    box.offer(bad)
    box.hear(box.manifest(bad))
    assert box.results() == [("downloading", bad.id), ("rolled_back", bad.id)]
    (box.paths.hooks / "fake").write_text("#!/bin/sh\n")
    box.hear(desired(box, command("redeploy", release=bad.id)), DESIRED_TOPIC)
    assert box.state.running_id == bad.id
    assert box.state.failed == []


def test_an_ordered_rollback_goes_back_without_downloading_again(box: Box, source: Source) -> None:
    old, new = build(7), build(8)
    box.offer(old)
    box.offer(new)
    downloads = len(source.requests)
    box.hear(box.manifest(old, event="rollback", rollback_from=8))
    assert box.state.running_id == old.id
    assert len(source.requests) == downloads
    assert box.state.update is not None and box.state.update.cause == "ordered"


def test_a_pause_in_mid_download_stops_before_activating(box: Box, source: Source) -> None:
    old, new = build(7), build(8)
    box.offer(old)
    source.add(new)
    box.agent.on_message(MANIFEST_TOPIC, box.manifest(old, new))
    assert box.jobs.busy
    box.agent.on_message(MANIFEST_TOPIC, box.manifest(old, new, paused=True, event="pause"))
    box.settle()
    assert box.state.running_id == old.id
    update = box.state.update
    assert update is not None and (update.state, update.reason, update.cause) == (
        "failed",
        "paused",
        "ordered",
    )
    assert box.state.failed == []
    assert f"activate {new.id} {old.id}" not in box.calls()
    box.hear(box.manifest(old, new))
    assert box.state.running_id == new.id


def test_a_pause_after_the_swap_lets_probation_finish(box: Box) -> None:
    old, new = build(7), build(8)
    box.offer(old)
    pause = box.manifest(old, new, paused=True, event="pause")
    box.hook("fake", "#!/bin/sh\n[ $1 != activate ] || touch $FLAGHOIST_STATE_DIR/activated\n")
    assert box.source is not None
    box.source.add(new)
    box.agent.on_message(MANIFEST_TOPIC, box.manifest(old, new))
    run = box.jobs._run

    def pause_comes_late() -> None:
        run()
        box.agent.on_message(MANIFEST_TOPIC, pause)

    box.jobs._run = pause_comes_late
    box.settle()
    assert box.state.running_id == new.id


REFUSED = [
    pytest.param(lambda box, built: b"\x00garbage", "malformed", id="garbage"),
    pytest.param(lambda box, built: b"\x81\xa1a" + b"\xc1", "malformed", id="half a map"),
    pytest.param(
        lambda box, built: kit.signed_manifest(box.numbers.next(), stable=built.signed, signers=("evil",)),
        "deployment_threshold",
        id="unknown deployment key",
    ),
    pytest.param(
        lambda box, built: box.manifest(
            Built(built.release, b"", kit.sign(built.release, "release", ["hub-1"]))
        ),
        "release_threshold",
        id="release signed by the hub itself",
    ),
    pytest.param(
        lambda box, built: kit.signed_manifest(
            box.numbers.next(), to=MANIFEST_TOPIC.replace("canary", "early"), segment="early"
        ),
        "addressee",
        id="manifest of another segment",
    ),
]


@pytest.mark.parametrize(("make", "check"), REFUSED)
def test_a_refused_manifest_changes_nothing_and_is_reported_once(box: Box, make: Any, check: str) -> None:
    good, other = build(7), build(8)
    box.offer(good)
    box.receipt_all()
    bad = make(box, other)
    for _ in range(3):
        box.hear(bad)
        box.agent.on_disconnected()
        box.agent.on_connected()
    assert box.state.running_id == good.id
    assert box.results() == [("refused", None)]
    report = box.link.of("update-result")[-1]
    assert (report.reason, report.check, report.topic) == ("untrusted", check, MANIFEST_TOPIC)
    verdict = box.status.verdict
    assert verdict is not None and (verdict.reason, verdict.check) == ("untrusted", check)
    # Also not again after a restart.
    box.start()
    box.online()
    box.hear(bad)
    assert box.results() == [("refused", None)]


def test_a_good_manifest_after_a_refused_one_is_obeyed(box: Box) -> None:
    """D8: a malformed message does not stop later ones."""
    box.hear(b"\xff" * 100)
    box.hear(b"{", DESIRED_TOPIC)
    box.hear(b"\x81", ROOT_TOPIC)
    box.hear(b"x", "acme/v1/devices/shop-12/down/receipt")
    built = build(7)
    box.offer(built)
    assert box.state.running_id == built.id
    box.hear(box.desired, DESIRED_TOPIC)
    box.hear(codec.encode(RootChain([])), ROOT_TOPIC)
    assert box.status.verdict is not None and box.status.verdict.reason == "already_installed"


def test_refusals_without_end_use_bounded_memory(box: Box) -> None:
    for n in range(200):
        box.hear(b"\x00%d" % n)
    assert len(box.memory.refusals) <= 64


def test_a_retained_manifest_that_comes_again_runs_nothing_again(box: Box) -> None:
    """D9."""
    built = build(7)
    assert box.source is not None
    box.source.add(built)
    retained = box.manifest(built)
    box.hear(retained)
    calls, starts = box.calls(), box.jobs.starts
    for _ in range(3):
        box.agent.on_disconnected()
        box.agent.on_connected()
        box.hear(retained)
    assert (box.calls(), box.jobs.starts) == (calls, starts)
    box.start()
    box.online()
    box.hear(retained)
    assert box.calls() == calls


def test_an_older_manifest_is_refused_as_replayed(box: Box) -> None:
    first, second = build(7), build(8)
    assert box.source is not None
    box.source.add(first)
    old = box.manifest(first)
    box.offer(second)
    box.hear(old)
    assert box.state.running_id == second.id
    assert box.status.verdict is not None and box.status.verdict.check == "replayed"


def test_a_command_runs_once_however_often_it_arrives(box: Box) -> None:
    """D9."""
    body = desired(box, command("collect-diagnostics"))
    for _ in range(3):
        box.hear(body, DESIRED_TOPIC)
    box.hear(desired(box, command("collect-diagnostics")), DESIRED_TOPIC)
    box.start()
    box.online()
    box.hear(body, DESIRED_TOPIC)
    kinds = [entry.channel for entry in box.spool.reports]
    assert kinds.count("command-result") == 1
    result = box.link.of("command-result")[-1]
    assert (result.command, result.ok) == ("c-1", True)


def test_an_expired_command_is_passed_over(box: Box) -> None:
    box.hear(desired(box, command("restart-agent", expires_at=NOW - 1)), DESIRED_TOPIC)
    assert not box.agent.restart_wanted
    assert [entry.channel for entry in box.spool.reports] == []


def test_restart_agent_is_answered_before_it_happens(box: Box) -> None:
    box.hear(desired(box, command("restart-agent")), DESIRED_TOPIC)
    assert box.agent.restart_wanted
    assert box.spool.reports[-1].channel == "command-result"
    assert box.memory.done == ["c-1"]
    box.start()
    assert not box.online().restart_wanted


def test_report_now_sends_a_heartbeat(box: Box) -> None:
    before = len(box.link.of("status"))
    box.hear(desired(box, command("report-now")), DESIRED_TOPIC)
    assert len(box.link.of("status")) > before


def test_fail_next_update_fails_one_update_in_probation(box: Box) -> None:
    box.hear(desired(box, command("fail-next-update")), DESIRED_TOPIC)
    bad, good = build(7), build(8)
    box.offer(bad)
    assert box.results()[-1] == ("rolled_back", bad.id)
    box.offer(good)
    assert box.state.running_id == good.id


def test_redeploy_of_the_running_release_starts_it_again(box: Box) -> None:
    built = build(7)
    box.offer(built)
    (box.paths.root / "hook.log").unlink()
    box.hook(
        "fake",
        "#!/bin/sh\nS=$FLAGHOIST_STATE_DIR\necho $1 $FLAGHOIST_RELEASE_ID >> $S/hook.log\n"
        "case $1 in probe) [ -e $S/up ];; activate) touch $S/up;; rollback) rm -f $S/up;; esac\n",
    )
    box.hear(desired(box, command("redeploy")), DESIRED_TOPIC)
    assert box.calls() == [f"rollback {built.id}", f"activate {built.id}"]
    assert box.link.of("command-result")[-1].ok


def test_moving_to_another_segment_changes_what_the_device_listens_to(box: Box) -> None:
    box.hear(desired(box, segment="early"), DESIRED_TOPIC)
    assert MANIFEST_TOPIC not in box.link.subscriptions
    assert MANIFEST_TOPIC.replace("canary", "early") in box.link.subscriptions
    assert box.status.segment == "early"


def test_a_new_root_brings_its_deployment_key_into_force(box: Box) -> None:
    second = kit.signed_root(2, expires_at=NOW + 365 * kit.DAY, deployments=("hub-2",))
    built = build(7)
    assert box.source is not None
    box.source.add(built)
    early = box.manifest(built, signers=("hub-2",))
    box.hear(early)
    assert box.state.running is None
    box.hear(codec.encode(RootChain([second])), ROOT_TOPIC)
    assert box.state.running_id == built.id
    assert box.status.trusted_root == 2


def test_maintenance_holds_updates_back(box: Box) -> None:
    box.hear(desired(box, maintenance=True), DESIRED_TOPIC)
    box.offer(build(7))
    assert box.state.running is None
    assert box.status.verdict is not None and box.status.verdict.reason == "maintenance"
    box.hear(desired(box), DESIRED_TOPIC)
    assert box.state.running_id == build(7).id


def test_the_third_failed_activation_in_a_row_enters_safe_mode(box: Box) -> None:
    good = build(7)
    box.offer(good)
    for sequence in (8, 9, 10):
        box.offer(build(sequence, {"files/fail-activate": b""}))
    entry = box.state.safe_mode
    assert entry
    assert box.calls()[-1] == f"safe-mode {good.id}"
    assert [report.state for report in box.link.of("recovery")] == ["entered", "diagnostics"]
    box.offer(build(11))
    assert box.status.verdict is not None and box.status.verdict.reason == "quarantined"
    assert box.status.safe_mode
    box.hear(desired(box, safe_mode=f"cleared:{entry}"), DESIRED_TOPIC)
    assert box.state.running_id == build(11).id
    assert box.link.of("recovery")[-1].state == "left"


@pytest.mark.parametrize("paused", [False, True])
def test_an_order_that_comes_before_what_it_is_about_waits_for_it(box: Box, paused: bool) -> None:
    old, new = build(7), build(8)
    box.offer(old)
    assert box.source is not None
    box.source.add(new)
    box.hear(box.manifest(old, new, paused=True))
    box.agent.on_disconnected()
    box.agent.will()
    box.agent.on_connected()
    box.hear(desired(box, command("redeploy", release=new.id)), DESIRED_TOPIC)
    assert box.link.of("command-result") == []
    box.hear(box.manifest(old, new, paused=paused))
    assert [answer.ok for answer in box.link.of("command-result")] == [not paused]
    assert box.state.running_id == (old if paused else new).id


def test_what_is_retained_is_waited_for_once_in_a_connection_and_not_for_long() -> None:
    connection = Connection()
    assert connection.may_still_say("offers", 5.0)
    connection.begin(10.0)
    assert connection.may_still_say("offers", 10.0 + PATIENCE - 1)
    assert not connection.may_still_say("offers", 10.0 + PATIENCE)
    connection.hear("offers")
    assert not connection.may_still_say("offers", 11.0)
    connection.end()
    assert not connection.may_still_say("offers", 12.0)
    connection.begin(20.0)
    assert connection.may_still_say("offers", 21.0)


def test_redeploy_leaves_safe_mode_by_its_success(box: Box) -> None:
    for sequence in (8, 9, 10):
        box.offer(build(sequence, {"files/fail-activate": b""}))
    good = build(11)
    box.offer(good)
    box.hear(desired(box, command("redeploy", release=good.id)), DESIRED_TOPIC)
    assert box.state.running_id == good.id
    assert box.state.safe_mode == ""


def test_a_rollback_hook_that_fails_is_not_run_for_ever(box: Box) -> None:
    """D7."""
    good = build(7)
    box.offer(good)
    box.offer(build(8, {"files/fail-activate": b"", "files/fail-rollback": b""}))
    assert sum(call.startswith("rollback") for call in box.calls()) == 3
    assert box.state.safe_mode
    assert box.results()[-1][0] == "rolled_back"


def test_a_committed_release_that_does_not_run_is_started_at_the_agents_start(box: Box) -> None:
    built = build(7)
    box.offer(built)
    (box.paths.root / "hook.log").unlink()
    (box.paths.root / "fail-probe").touch()
    box.start()
    box.online()
    assert box.calls() == [f"activate {built.id}"]


def test_heartbeats_carry_what_decide_needs(box: Box) -> None:
    box.offer(build(7))
    status = box.status
    assert (status.role, status.segment, status.hardware) == ("kiosk", "canary", "rpi4")
    assert status.trusted_manifest and status.trusted_desired and status.trusted_root == 1
    assert status.seq == len(box.link.of("status"))
    assert status.spool_depth == len(box.spool)


def test_each_start_counts_a_boot_and_each_connection_a_session(box: Box) -> None:
    first = box.link.of("presence")[-1]
    box.start()
    box.online()
    second = box.link.of("presence")[-1]
    assert second.boot[0] == first.boot[0] + 1
    assert second.session == first.session + 1


def test_a_device_takes_its_place_in_the_spread(box: Box, source: Source) -> None:
    built = source.add(build(7))
    box.hear(box.manifest(built, spread_seconds=86_400 * 300))
    assert box.state.update is None
    assert box.status.verdict is not None and box.status.verdict.reason == "eligible"
    assert box.agent.deadline is not None


def test_the_agent_knows_its_own_name(box: Box) -> None:
    assert box.link.sent[0][0] == f"acme/v1/devices/{DEVICE}/up/presence"


def test_attempts_at_a_release_are_numbered_on_and_on(box: Box) -> None:
    """The hub takes the later of two reports by their attempt; one that started anew would count as old."""
    first, second = build(7), build(8)
    box.offer(first)
    box.offer(second)
    box.hear(box.manifest(first, event="rollback", rollback_from=8))
    box.hear(box.manifest(second))
    attempts = [(report.release, report.attempt) for report in box.link.of("update-result")][::2]
    assert attempts == [(first.id, 1), (second.id, 1), (first.id, 2), (second.id, 2)]


def test_after_a_power_cut_in_probation_the_release_is_started_before_it_is_judged(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ran before the cut runs no longer; that is not the release's fault."""
    box.hook(
        "fake",
        "#!/bin/sh\nU=$FLAGHOIST_STATE_DIR/up\n"
        "case $1 in probe) [ -e $U ] || { echo gone >&2; exit 1; };; activate) touch $U;; esac\n",
    )
    built = build(7)

    def power_cut(*_: Any) -> None:
        (box.paths.root / "up").unlink()
        raise InterruptedError("power cut")

    assert box.source is not None
    box.source.add(built)
    with monkeypatch.context() as patch:
        patch.setattr("edge.updating.probation.watch", power_cut)
        box.agent.on_message(MANIFEST_TOPIC, box.manifest(built))
        with pytest.raises(InterruptedError):
            box.jobs.run()
    assert box.state.update is not None and box.state.update.state == "probation"
    box.start()
    box.online()
    assert box.state.running_id == built.id
