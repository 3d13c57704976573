"""What the agent costs while it is connected and nothing happens."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.edge.rig import Rig, stop
from tests.edge.world import DESIRED_TOPIC, MANIFEST_TOPIC, wait_until

RESIDENT_LIMIT_KIB = 31 * 1024


def test_the_connected_agent_stays_below_31_mib(rig: Rig) -> None:
    process = rig.run()
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(None))
    wait_until(lambda: rig.status().trusted_manifest)
    text = Path(f"/proc/{process.pid}/status").read_text()
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", text)[1])  # type: ignore[index]
    threads = int(re.search(r"Threads:\s+(\d+)", text)[1])  # type: ignore[index]
    assert resident <= RESIDENT_LIMIT_KIB, f"{resident} KiB resident"
    assert threads == 1
    stop(process)


def switches(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return sum(int(count) for count in re.findall(r"ctxt_switches:\s+(\d+)", text))


@pytest.mark.heavy
def test_an_idle_agent_sleeps(rig: Rig) -> None:
    """No polling: while nothing happens, nothing wakes it."""
    process = rig.run()
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(None))
    wait_until(lambda: rig.status().trusted_manifest)
    quiet = [switches(process.pid)]

    def settled() -> bool:
        time.sleep(0.3)
        quiet.append(switches(process.pid))
        return quiet[-1] == quiet[-2]

    wait_until(settled)
    before = switches(process.pid)
    time.sleep(1.5)
    assert switches(process.pid) - before <= 1
    stop(process)
