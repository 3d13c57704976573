"""`repair`: put the running release's files back as they were signed."""

from __future__ import annotations

import argparse

from edge.config import Paths
from edge.drift import command
from edge.verbs import drift


def run(paths: Paths, chosen: argparse.Namespace) -> int:
    """Repair; exit code 1 when something still differs. Raises `EdgeError`."""
    return drift.show(*command.repair(paths), as_json=chosen.json)
