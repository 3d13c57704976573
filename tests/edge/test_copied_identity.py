"""Two devices started from copies of one disk, on a real broker."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from edge.runner import COPIED
from tests.edge.rig import Rig
from tests.edge.world import DESIRED_TOPIC, DEVICE, MANIFEST_TOPIC, wait_until
from tests.support.intake import intake
from tests.support.uplinks import open_store, rows


@contextmanager
def running(rig: Rig, root: Path) -> Iterator[list[str]]:
    """Run an agent and gather what it says."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edge.main", "run", "--state", str(root)],
        env=rig.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    said: list[str] = []

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield said
    finally:
        process.kill()
        process.wait(30)
        reader.join(30)
        assert process.stderr is not None
        process.stderr.close()


def test_d10_two_devices_of_one_identity_back_off_and_say_so_and_the_hub_tells_of_it(
    rig: Rig, tmp_path: Path
) -> None:
    rig.hoist(DESIRED_TOPIC, rig.box.desired)
    rig.hoist(MANIFEST_TOPIC, rig.box.manifest(None))
    rig.ingest.close()  # its place is taken by the hub's own
    copy = tmp_path / "copy"
    shutil.copytree(rig.paths.root, copy, symlinks=True)

    with closing(open_store(tmp_path, DEVICE)) as store:

        def told() -> list[str]:
            found = rows(
                store, "SELECT reason FROM events WHERE kind = 'device.copied' AND device_id = :id", id=DEVICE
            )
            return [row["reason"] for row in found]

        with intake(rig.broker, store), running(rig, rig.paths.root) as one, running(rig, copy) as other:
            wait_until(lambda: any(COPIED in line for line in one), what="the agent's word")
            wait_until(lambda: any(COPIED in line for line in other), what="the other agent's word")
            wait_until(told, what="the hub's event")
        assert len(told()) == 1
