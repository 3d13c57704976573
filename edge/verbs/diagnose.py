"""`diagnose`: what is wrong with this device, and what to do about it."""

from __future__ import annotations

import argparse

from edge.config import Paths
from edge.diagnose import command


def run(paths: Paths, chosen: argparse.Namespace) -> int:
    """Check and print; exit code 1 when a check failed. Raises `EdgeError`."""
    said, code = command.run(paths, as_json=chosen.json)
    print(said)
    return code
