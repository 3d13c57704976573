"""D2 with a real file system and real processes: it fills up, stays full over a restart, and has room again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.rig import Rig, alive, exec_release
from tests.edge.world import DESIRED_TOPIC, MANIFEST_TOPIC, Source, wait_until
from tests.support.disks import fill, small_disk
from tests.support.mosquitto import Broker

pytestmark = pytest.mark.heavy


@pytest.fixture
def cramped(tmp_path: Path, source: Source) -> Iterator[Rig]:
    """A device whose state directory has a small disk of its own."""
    with small_disk(tmp_path / "disk", "48m") as disk, Broker(tmp_path / "hub") as broker:
        made = Rig(disk, broker, source)
        yield made
        made.close()


def test_a_disk_that_stays_full_stops_no_service_and_no_heartbeat_and_once_there_is_room_all_goes_on(
    cramped: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAGHOIST_EDGE_RESEND_SECONDS", "0.5")
    monkeypatch.setenv("FLAGHOIST_EDGE_HEARTBEAT_SECONDS", "0.5")
    old, new = (cramped.source.add(exec_release(number)) for number in (7, 8))
    cramped.hoist(DESIRED_TOPIC, cramped.box.desired)
    cramped.hoist(MANIFEST_TOPIC, cramped.box.manifest(old))
    agent = cramped.run()
    wait_until(lambda: cramped.result().state == "committed", what="the first release")
    service = cramped.service
    filler = cramped.paths.root.parent / "filler"
    fill(filler)
    cramped.hoist(MANIFEST_TOPIC, cramped.box.manifest(new))
    wait_until(lambda: cramped.status().health == "degraded", what="a heartbeat that tells of it")
    agent.kill()
    agent.wait()
    cramped.start()
    while cramped.presence().state != "online":
        pass
    told = wait_until(lambda: cramped.status(), what="a heartbeat after the restart")
    assert told.health == "degraded"
    assert told.running is not None and told.running.id == old.id
    assert cramped.service == service and alive(service)
    assert "disk space: 0 MiB free" in json.loads(cramped.ask("status", "--json").stdout)["machine"]
    filler.unlink()
    wait_until(
        lambda: (r := cramped.result()).state == "committed" and r.release == new.id, what="the new one"
    )
    wait_until(lambda: cramped.status().health == "ok", what="a heartbeat that all is well")
    assert json.loads(cramped.ask("status", "--json").stdout)["machine"] == "ok"
