"""`enrol`: make this device known to a hub."""

from __future__ import annotations

import argparse
import os

from edge.config import Paths
from edge.identity import enrol
from edge.machine.clock import SystemClock


def run(paths: Paths, chosen: argparse.Namespace) -> int:
    """Enrol and say what to do next. Raises `EdgeError`."""
    token = chosen.token or os.environ.get("FLAGHOIST_ENROL_TOKEN", "")
    if not token:
        chosen.misused("a token is needed: give --token T, or set FLAGHOIST_ENROL_TOKEN")
    wanted = enrol.Wanted(chosen.hub, token, chosen.device_id, chosen.hardware, chosen.serial)
    done = enrol.enrol(paths, wanted, SystemClock())
    device = done.device
    print(
        f"enrolled {device.device_id} in fleet {device.fleet}; start it with: flaghoist-edge run --state {paths.root}"
    )
    if done.again:
        print(
            f"it was enrolled before: role {done.role} and segment {done.segment} stay as they are, whatever the token"
            f" names; an operator changes them with: flaghoist device set {device.device_id}"
        )
    return 0
