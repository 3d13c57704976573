"""The agent as a process of its own, on a real broker with TLS and the access list that the hub renders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from edge.machine import starts
from edge.storage import memory
from tests.edge.rig import Rig, alive, exec_release, hang, stop
from tests.edge.world import DESIRED_TOPIC, FLEET, MANIFEST_TOPIC, wait_until
from tests.topics import kit
from topics.documents import Command


def test_an_update_from_hoist_to_receipt(rig: Rig) -> None:
    """Also: the service outlives a restart of the agent, and no second copy is started."""
    first = rig.source.add(exec_release(7))
    process = rig.run()
    presence = rig.presence()
    assert presence.state == "online"
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(first))
    began, ended = rig.result(), rig.result()
    assert (began.state, ended.state, ended.release) == ("downloading", "committed", first.id)
    assert (began.n, ended.n) == (1, 2)
    assert rig.depth() == 2
    rig.receipt(ended)
    wait_until(lambda: rig.depth() == 0, what="the receipt")
    service = rig.service
    assert alive(service)

    stop(process)
    assert alive(service)
    while (left := rig.presence()).state != "offline":
        pass
    assert left.session == presence.session

    process = rig.run()
    again = rig.presence()
    assert (again.state, again.session) == ("online", presence.session + 1)
    assert again.boot[0] == presence.boot[0] + 1
    status = rig.status()
    assert status.running is not None and status.running.id == first.id
    wait_until(lambda: rig.status().verdict.reason == "already_installed")  # type: ignore[union-attr]
    assert rig.service == service
    stop(process)


def test_sigkill_of_the_agent_leaves_its_will_and_the_service(rig: Rig) -> None:
    first = rig.source.add(exec_release(7))
    process = rig.run()
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(first))
    while rig.result().state != "committed":
        pass
    service = rig.service
    process.kill()
    while rig.presence().state != "offline":
        pass
    assert alive(service)
    rig.run()
    assert rig.presence().state == "online"


def test_the_update_process_dies_with_the_agent_and_the_next_one_goes_on(rig: Rig) -> None:
    first = rig.source.add(exec_release(7))
    rig.source.faults = [hang]
    process = rig.run()
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(first))
    assert rig.result().state == "downloading"
    wait_until(lambda: rig.source.requests)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    child = int(wait_until(lambda: children.read_text().split())[0])
    process.kill()
    wait_until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text())
    process.wait()
    rig.run()
    results = [rig.result(), rig.result()]
    while results[-1].state != "committed":
        results.append(rig.result())
    assert {(result.n, result.state) for result in results} == {(1, "downloading"), (2, "committed")}


def test_a_killed_update_process_is_started_again(rig: Rig) -> None:
    first = rig.source.add(exec_release(7))
    rig.source.faults = [hang]
    process = rig.run()
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(first))
    wait_until(lambda: rig.source.requests)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    while rig.result().state != "committed":
        pass
    stop(process)


def test_an_agent_without_a_broker_keeps_running_and_connects_when_it_is_back(rig: Rig) -> None:
    rig.hoister.close()
    rig.ingest.close()
    rig.broker.stop()
    process = rig.run()
    assert process.stderr is not None
    line = process.stderr.readline()
    while "not connected" not in line:
        line = process.stderr.readline()
    rig.broker.start()
    rig.ingest = rig.broker.service("svc.ingest-0")
    rig.hoister = rig.broker.service("svc.hoister")
    rig.ingest.subscribe(f"{FLEET}/v1/devices/+/up/#")
    wait_until(lambda: rig.presence().state == "online")
    assert process.poll() is None
    stop(process)


def test_restart_agent_starts_the_agent_anew(rig: Rig) -> None:
    process = rig.run()
    boot = rig.status().boot[0]
    command = Command(id="c-9", kind="restart-agent", expires_at=int(time.time() * 1000) + kit.DAY)
    rig.hoist(DESIRED_TOPIC, kit.signed_desired(rig.box.numbers.next(), commands=[command]))
    wait_until(lambda: rig.status().boot[0] == boot + 1)
    assert process.poll() is None
    stop(process)
    assert memory.need(rig.paths).done == ["c-9"]


def test_once_updates_reports_and_says_when_it_wakes(rig: Rig) -> None:
    first = rig.source.add(exec_release(7))
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(first))
    process = subprocess.Popen(rig.command("once"), env=rig.environment, stderr=subprocess.PIPE, text=True)
    rig.processes.append(process)
    while (result := rig.result()).state != "committed":
        pass
    rig.receipt(result)
    assert process.wait(30) == 0
    presence = rig.presence()
    while presence.state != "sleeping":
        presence = rig.presence()
    assert presence.next_wake > time.time() + 200
    assert rig.depth() == 0


def test_once_says_that_nobody_answers(rig: Rig) -> None:
    rig.broker.stop()
    os.environ["FLAGHOIST_EDGE_SETTLE_SECONDS"] = "0.5"
    try:
        done = rig.ask("once")
    finally:
        del os.environ["FLAGHOIST_EDGE_SETTLE_SECONDS"]
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1].startswith("flaghoist-edge: no broker answers at 127.0.0.1:")
    assert starts.row(rig.paths) == 0, "it has done what it could, so this is no boot loop"


def test_two_agents_do_not_share_a_state_directory(rig: Rig) -> None:
    process = rig.run()
    rig.presence()
    done = rig.ask("once")
    assert done.returncode == 3
    assert "another flaghoist-edge works in" in done.stderr
    process.kill()
    process.wait()
    rig.run()
    assert rig.presence().state, "D5: a lock of a killed process blocks nobody"


def test_status_shows_what_runs(rig: Rig) -> None:
    first = rig.source.add(exec_release(7))
    process = rig.run()
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(first))
    while rig.result().state != "committed":
        pass
    values = json.loads(rig.ask("status", "--json").stdout)
    assert (values["running"], values["service"], values["reports_waiting"]) == (first.id, "ok", 2)
    assert f"running   {first.id} (version 1.7.0)" in rig.ask("status").stdout
    stop(process)


def test_a_lost_memory_says_what_to_do(rig: Rig) -> None:
    for path in (*rig.paths.root.glob("memory*"), *rig.paths.root.glob("anchor*")):
        path.unlink()
    done = rig.ask("run")
    assert done.returncode == 3
    assert done.stderr.strip().endswith("run flaghoist-edge enrol again with a new token")


def test_a_broker_that_refuses_by_its_access_list_is_noticed(rig: Rig) -> None:
    """D11: the device of another fleet may connect, and nothing it says is let through."""
    process = rig.run(fleet="other")
    assert process.stderr is not None
    line = process.stderr.readline()
    while "refused" not in line:
        line = process.stderr.readline()
    assert "(reason 0x87)" in line
    process.kill()
