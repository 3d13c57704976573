"""The hub and its broker are gone right after a healthy swap: the device keeps the new release and reports later."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

import pytest

from edge.storage import state
from edge.storage.spool import Spool
from tests.edge.rig import SERVICE, Rig, alive, stop
from tests.edge.world import DESIRED_TOPIC, DEVICE, MANIFEST_TOPIC, Built, build, wait_until
from tests.support.intake import intake
from tests.support.uplinks import open_store, rows

WAIT = b"""#!/bin/sh
touch "$FLAGHOIST_STATE_DIR/asked"
until [ -e "$FLAGHOIST_STATE_DIR/go" ]; do sleep 0.05; done
"""
"""A check of the release's own that passes when the test says so."""


def service(sequence: int) -> Built:
    """A release of a real service, whose probation ends when the test says so."""
    return build(
        sequence,
        {"files/bin/service": SERVICE, "validate/wait": WAIT},
        hook="exec",
        info={"exec": {"command": ["files/bin/service"], "stop_seconds": 2}},
    )


@pytest.mark.parametrize(
    "restart", [pytest.param(False, id="the agent goes on"), pytest.param(True, id="and the agent is killed")]
)
def test_a_release_that_proved_itself_while_the_hub_was_gone_stays_and_is_reported_once(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restart: bool
) -> None:
    monkeypatch.setenv("FLAGHOIST_EDGE_VALIDATE_SECONDS", "100")
    monkeypatch.setenv("FLAGHOIST_EDGE_RESEND_SECONDS", "1")
    new = rig.source.add(service(7))
    process = rig.run()
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(new))
    wait_until((rig.paths.root / "asked").exists, what="probation")
    rig.broker.kill()
    (rig.paths.root / "go").touch()

    def committed() -> bool:
        return state.load(rig.paths).running_id == new.id

    wait_until(committed, what="the commit")
    if restart:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        process = rig.run()
    pid = rig.service
    assert alive(pid) and rig.paths.current.readlink().name == new.id

    rig.broker.start()
    with closing(open_store(tmp_path, DEVICE)) as store:
        with intake(rig.broker, store):
            wait_until(lambda: not Spool.peek(rig.paths.spool), what="receipts of all reports")
        told = rows(store, "SELECT release_id, state FROM attempts")
        assert told == [{"release_id": new.id, "state": "committed"}]
        assert rows(store, "SELECT n FROM reports ORDER BY n") == [{"n": 1}, {"n": 2}]
    assert rig.service == pid and alive(pid), "what runs was not touched"
    stop(process)
