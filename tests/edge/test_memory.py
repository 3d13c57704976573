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


def sleeps(pid: int) -> int:
    """How often a process gave the processor away by itself: what a busy machine takes from it is none of its doing."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]


@pytest.mark.heavy
def test_an_idle_agent_sleeps(rig: Rig) -> None:
    """No polling: two seconds come in which nothing wakes it, as soon as all that was on its way has arrived."""
    process = rig.run()
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(None))
    wait_until(lambda: rig.status().trusted_manifest)

    def nothing_wakes_it() -> bool:
        before = sleeps(process.pid)
        time.sleep(2)
        return sleeps(process.pid) == before

    wait_until(nothing_wakes_it)
    stop(process)
