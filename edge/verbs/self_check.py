"""`self-check`: this build of the agent runs here and reads this device's files. The agent before it asks."""

from __future__ import annotations

import argparse
import importlib
from typing import Final

from edge import VERSION, config
from edge.config import Paths
from edge.errors import NotReady
from edge.identity.identity import Identity
from edge.storage import anchor, state

NEEDED: Final = ("edge.resident", "edge.updating.child", "edge.drift.files", "edge.identity.enrol")
"""What `run` and the update process load, with everything below."""


def run(paths: Paths, _chosen: argparse.Namespace) -> int:
    """Load everything, read everything, change nothing; print the version. Raises `EdgeError`."""
    for module in NEEDED:
        importlib.import_module(module)
    device = Identity(paths).device
    config.load_settings(paths.root)
    anchor.need(paths, device.fleet)
    state.load(paths)
    if not paths.hooks.is_dir():
        raise NotReady(f"there are no hooks in {paths.hooks}; put firmware_hooks beside edge in the build")
    print(VERSION)
    return 0
